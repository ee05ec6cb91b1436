"""llama.cpp's ``llama-server`` on a folder with ``llama-server``, ``model.gguf`` and ``mmproj.gguf``, through its HTTP
interface as its users call it.
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

from vlrun.bench.workload import QUESTIONS, TEXT, WARM_UP, Samples, arguments, image

CONTEXT = 4096
"""Tokens; its default, the model's whole length, takes 24 GB."""
START_SECONDS, ANSWER_SECONDS = 120, 900
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Not by a proxy: the server is here."""


def main() -> None:
    """Run the course."""
    options = arguments("The benchmark's course, run by llama.cpp.")
    samples = Samples(options.began)
    with samples.timed("load"):
        server, url = _start(options.model)
    try:
        _ask(url, TEXT, None, 1)
        samples.since_start("start_to_text")
        _ask(url, QUESTIONS[0], image(WARM_UP), 2)
        for number in range(options.rounds):
            ttft, tpot, tokens = _ask(url, QUESTIONS[0], image(number), options.tokens)
            samples.add("prompt_tokens", tokens)
            samples.add("ttft_new", ttft)
            samples.add("tpot", tpot)
            for question in QUESTIONS[1:]:
                samples.add("ttft_again", _ask(url, question, image(number), 2)[0])
        samples.memory(server.pid)
    finally:
        server.kill()
        server.wait()
    samples.print()


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The server and its address, when it is ready. Raises RuntimeError if it does not get there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "llama-server"), "-m", str(folder / "model.gguf"), "--mmproj", str(folder / "mmproj.gguf")]
    command += ["-c", str(CONTEXT), "-np", "1", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with OPENER.open(f"{url}/health", timeout=START_SECONDS) as answer:
                if answer.status == 200:
                    return server, url
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    server.kill()
    raise RuntimeError("llama-server did not start")


def _ask(url: str, question: str, image: Image.Image | None, tokens: int) -> tuple[float, float, int]:
    """Seconds to the first token and for each further one, and the prompt's tokens."""
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
    began, moments, prompt = time.perf_counter(), [], 0
    with _events(request) as events:
        for event in events:
            if usage := event.get("usage"):
                prompt = usage["prompt_tokens"]
            if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                moments.append(time.perf_counter())
    first = moments[0] if moments else time.perf_counter()
    return first - began, (moments[-1] - first) / max(1, tokens - 1) if moments else 0.0, prompt


@contextmanager
def _events(request: urllib.request.Request) -> Iterator[Iterator[dict[str, Any]]]:
    """The server-sent events of a response."""
    with OPENER.open(request, timeout=ANSWER_SECONDS) as response:
        lines = (line[6:] for line in response if line.startswith(b"data: {"))
        yield (json.loads(line) for line in lines)


if __name__ == "__main__":
    main()
