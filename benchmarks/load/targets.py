"""The two targets of the overhead measurement: a generation job through the service, and through the engine alone."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.load.http_client import Address, request
from benchmarks.load.images import data_url
from benchmarks.load.request_mix import CHAT
from benchmarks.load.service_process import MODEL_NAME

STREAMS = 4
"""Most concurrent streams."""
SEED = 1
READ = 1 << 16
"""Bytes per read."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class GenerationJob:
    """A question, asked ``concurrency`` times at once in each round. Both targets draw the same tokens."""

    text: str
    tokens: int
    image: bytes | None = None
    schema: object = None
    temperature: float = 0.0
    concurrency: int = 1

    def engine_job(self, rounds: int) -> str:
        """The job as JSON for ``engine_process``."""
        image = base64.b64encode(self.image).decode() if self.image else None
        job = {"image": image, "text": self.text, "schema": self.schema, "concurrency": self.concurrency}
        return json.dumps({**job, **self._sampling(), "rounds": rounds})

    def body(self) -> bytes:
        """The body of a chat completion: a single answer whole, several as streams."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        if self.image:
            content.insert(0, {"type": "image_url", "image_url": {"url": data_url(self.image)}})
        body: dict[str, Any] = {"model": MODEL_NAME, "messages": [{"role": "user", "content": content}]}
        body |= self._sampling()
        if self.schema:
            form = {"name": "answer", "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.concurrency > 1:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(body).encode()

    def _sampling(self) -> dict[str, Any]:
        return {"max_tokens": self.tokens, "temperature": self.temperature, "seed": SEED}


Round = tuple[float, int]
"""Seconds of a round, and tokens of all its answers."""


class EngineTarget:
    """The engine without HTTP, in its own process."""

    def __init__(self, model: Path | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.engine_process", *([str(model)] if model else [])],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> EngineTarget:
        if self._receive() != "ready":
            raise RuntimeError("the engine process did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: GenerationJob, rounds: int) -> list[Round]:
        """Run ``rounds`` rounds of the job."""
        if self._process.stdin is None:
            raise RuntimeError("the engine process has no stdin")
        self._process.stdin.write(job.engine_job(rounds) + "\n")
        self._process.stdin.flush()
        return [(seconds, tokens) for seconds, tokens in self._receive()]

    def _receive(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the engine process has ended")
        return json.loads(line)


class HTTPTarget:
    """The service, with connections that stay open from round to round."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(STREAMS)

    def run(self, job: GenerationJob, rounds: int) -> list[Round]:
        """Run ``rounds`` rounds of the job, on new connections: the service closes those that are idle for long."""
        raw = request(self._address, CHAT, job.body())
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.create_connection(self._address)) for _ in range(job.concurrency)]
            for one in opened:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return [self._round(raw, opened) for _ in range(rounds)]

    def _round(self, raw: bytes, opened: Sequence[socket.socket]) -> Round:
        began = time.perf_counter()
        counts = list(self._threads.map(lambda one: _send(one, raw), opened))
        return time.perf_counter() - began, sum(counts)


def _send(opened: socket.socket, raw: bytes) -> int:
    """Send a request and read the answer with as little work as possible; returns the number of tokens."""
    opened.sendall(raw)
    answer = bytearray()
    while not _complete(answer):
        chunk = opened.recv(READ)
        if not chunk:
            raise RuntimeError("the service closed the connection")
        answer += chunk
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the service refused: {answer[:500].decode(errors='replace')}")
    usage = answer.rpartition(b'"completion_tokens":')[2]
    return int(usage[: usage.index(b",")])


def _complete(answer: bytearray) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")
