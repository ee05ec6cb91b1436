"""The workload with llama.cpp's ``llama-server``, over HTTP as its users call it.

The folder has ``llama-server``, ``model.gguf`` and ``mmproj.gguf``.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from vlrun.bench.workload import QUESTIONS, TEXT, WARM_UP_IMAGE, SampleWriter, image, parse_arguments

CONTEXT = 4096
"""Tokens; the default, the model's full context, takes 24 GB."""
START_SECONDS, ANSWER_SECONDS = 120, 900
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Ignores proxy settings: the server is local."""


def main() -> None:
    """Run the workload."""
    options = parse_arguments("The benchmark's workload, run by llama.cpp.")
    samples = SampleWriter(options.began)
    with samples.timed("load"):
        server, url = _start(options.model)
    try:
        _ask(url, TEXT, None, 1)
        samples.add_since_start("start_to_text")
        _ask(url, QUESTIONS[0], image(WARM_UP_IMAGE), 2)
        for number in range(options.rounds):
            ttft, tpot, tokens = _ask(url, QUESTIONS[0], image(number), options.tokens)
            samples.add("prompt_tokens", tokens)
            samples.add("ttft_new", ttft)
            samples.add("tpot", tpot)
            for question in QUESTIONS[1:]:
                samples.add("ttft_again", _ask(url, question, image(number), 2)[0])
        samples.add_memory(server.pid)
    finally:
        server.kill()
        server.wait()


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server and wait until it is ready; its process and URL. Raises RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "llama-server"), "-m", str(folder / "model.gguf"), "--mmproj", str(folder / "mmproj.gguf")]
    command += ["-c", str(CONTEXT), "-np", "1", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with OPENER.open(f"{url}/health", timeout=START_SECONDS) as answer:
                if answer.status == 200:
                    return server, url
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    server.kill()
    raise RuntimeError("llama-server did not start")


def _ask(url: str, question: str, image: Image.Image | None, tokens: int) -> tuple[float, float, int]:
    """TTFT and TPOT in seconds, and the tokens of the prompt."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        encoded = io.BytesIO()
        image.save(encoded, "PNG", compress_level=1)
        data = f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
        parts.insert(0, {"type": "image_url", "image_url": {"url": data}})
    body = {
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began, arrivals, prompt = time.perf_counter(), [], 0
    with _events(request) as events:
        for event in events:
            if usage := event.get("usage"):
                prompt = usage["prompt_tokens"]
            if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                arrivals.append(time.perf_counter())
    first = arrivals[0] if arrivals else time.perf_counter()
    return first - began, (arrivals[-1] - first) / max(1, tokens - 1) if arrivals else 0.0, prompt


@contextmanager
def _events(request: urllib.request.Request) -> Iterator[Iterator[dict[str, Any]]]:
    """The server-sent events of a response."""
    with OPENER.open(request, timeout=ANSWER_SECONDS) as response:
        lines = (line[6:] for line in response if line.startswith(b"data: {"))
        yield (json.loads(line) for line in lines)


if __name__ == "__main__":
    main()
