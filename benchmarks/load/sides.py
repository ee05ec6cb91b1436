"""The two sides of a comparison: the same job through a service, and through the engine alone.

Knows sockets and processes; what is compared, and how often, is said in ``overhead``.
"""

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

from benchmarks.load.images import data_url
from benchmarks.load.questions import CHAT
from benchmarks.load.serving import NAME
from benchmarks.load.wire import Address, request

STREAMS = 4
"""At most, at once."""
SEED = 1
READ = 1 << 16
"""Bytes at a time."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A question, and how often: ``together`` at once in each round. The draw of tokens is the same on both sides."""

    text: str
    tokens: int
    image: bytes | None = None
    schema: object = None
    temperature: float = 0.0
    together: int = 1

    def told(self, rounds: int) -> str:
        """For the engine alone."""
        image = base64.b64encode(self.image).decode() if self.image else None
        told = {"image": image, "text": self.text, "schema": self.schema, "together": self.together}
        return json.dumps({**told, **self._sampling(), "rounds": rounds})

    def body(self) -> bytes:
        """For the service: one answer whole, several as streams."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        if self.image:
            content.insert(0, {"type": "image_url", "image_url": {"url": data_url(self.image)}})
        body: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": content}]}
        body |= self._sampling()
        if self.schema:
            form = {"name": "answer", "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.together > 1:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(body).encode()

    def _sampling(self) -> dict[str, Any]:
        return {"max_tokens": self.tokens, "temperature": self.temperature, "seed": SEED}


Round = tuple[float, int]
"""Seconds, and tokens of all answers together."""


class Alone:
    """The engine without HTTP, in a process of its own."""

    def __init__(self, model: Path | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.alone", *([str(model)] if model else [])],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Alone:
        if self._heard() != "ready":
            raise RuntimeError("the engine alone did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def do(self, job: Job, rounds: int) -> list[Round]:
        """So many rounds of it."""
        if self._process.stdin is None:
            raise RuntimeError("the engine alone cannot be told anything")
        self._process.stdin.write(job.told(rounds) + "\n")
        self._process.stdin.flush()
        return [(seconds, tokens) for seconds, tokens in self._heard()]

    def _heard(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the engine alone has ended")
        return json.loads(line)


class OverHTTP:
    """The same through a service, over connections that stay open from round to round."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(STREAMS)

    def do(self, job: Job, rounds: int) -> list[Round]:
        """So many rounds of it. Connections are new each time: the service closes those that were idle for long."""
        raw = request(self._address, CHAT, job.body())
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.create_connection(self._address)) for _ in range(job.together)]
            for one in opened:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return [self._round(raw, opened) for _ in range(rounds)]

    def _round(self, raw: bytes, opened: Sequence[socket.socket]) -> Round:
        began = time.perf_counter()
        counts = list(self._threads.map(lambda one: _asked(one, raw), opened))
        return time.perf_counter() - began, sum(counts)


def _asked(opened: socket.socket, raw: bytes) -> int:
    """Send a request and read the answer with as little work as possible; its tokens."""
    opened.sendall(raw)
    answer = bytearray()
    while not _complete(answer):
        piece = opened.recv(READ)
        if not piece:
            raise RuntimeError("the service closed the connection")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the service refused: {answer[:500].decode(errors='replace')}")
    usage = answer.rpartition(b'"completion_tokens":')[2]
    return int(usage[: usage.index(b",")])


def _complete(answer: bytearray) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")
