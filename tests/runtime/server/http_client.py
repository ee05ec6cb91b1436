"""HTTP requests to a running service over real sockets, without a client library."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.server.running_server import Server

QUESTION = "How many bottles are there?"
NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
"""A schema whose answers have thousands of tokens."""


def data_url(encoded: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def image(path: Path = EXAMPLES / "shelf.png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(path.read_bytes())}}


def new_image() -> dict[str, Any]:
    """An image that is in no cache: random pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (320, 256), os.urandom(320 * 256 * 3)).save(file, "PNG")
    return {"type": "image_url", "image_url": {"url": data_url(file.getvalue())}}


def chat_request(*parts: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The body of a chat completion request."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"model": "vlrun-tiny", "messages": [{"role": "user", "content": content}], "temperature": 0, **more}


def shelf_request(**more: Any) -> dict[str, Any]:
    """A request about examples/shelf.png whose answer is 6."""
    return chat_request(image(), QUESTION, **more)


def long_request(**more: Any) -> dict[str, Any]:
    """A request that keeps the model busy for seconds."""
    wanted = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": NUMBERS}}
    return chat_request("Numbers", **{"temperature": 2, "response_format": wanted, "max_tokens": 3900, **more})


class Reply:
    """A complete response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The content of the first choice."""
        return str(self.json["choices"][0]["message"]["content"])


class Connection(http.client.HTTPConnection):
    """A connection that closes when it is garbage-collected, and no earlier than its response."""

    def __del__(self) -> None:
        self.close()

    def getresponse(self) -> http.client.HTTPResponse:
        """Get the response; it keeps the connection open."""
        response = super().getresponse()
        setattr(response, "connection", self)  # noqa: B010 - not an attribute of the class
        setattr(self, "_HTTPConnection__response", None)  # noqa: B010 - no reference cycle
        return response

    def disconnect(self) -> None:
        """Close the connection without waiting for the response."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.close()


def connect(server: Server, seconds: float = 60) -> Connection:
    return Connection("127.0.0.1", server.port, timeout=seconds)


def get(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Reply:
    connection = connect(server)
    connection.request("GET", path, headers=dict(headers or {}))
    return Reply(connection.getresponse())


def post(
    server: Server,
    body: object,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request and read the response. ``body``: bytes as they are, anything else as JSON."""
    return Reply(send_request(server, body, path, headers).getresponse())


def send_request(
    server: Server,
    body: object,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
) -> Connection:
    """Send a request without reading the response."""
    connection = connect(server)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, raw, {"Content-Type": "application/json", **(headers or {})})
    return connection


def events(response: http.client.HTTPResponse) -> Iterator[str]:
    """The data of SSE events, and SSE comments with their colon."""
    for line in response:
        text = line.decode().rstrip("\n")
        if text.startswith("data: "):
            yield text.removeprefix("data: ")
        elif text.startswith(":"):
            yield text


def metric(server: Server, name: str) -> float:
    """A gauge or counter of /metrics, summed over its labels."""
    lines = get(server, "/metrics").body.decode().splitlines()
    values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(values)


def is_idle(server: Server) -> bool:
    """Whether nothing runs or waits and no memory is held for requests."""
    names = ("vlrun_engine_running", "vlrun_engine_waiting", "vlrun_kv_cache_held_bytes", "vlrun_answers_running")
    return not any(metric(server, name) for name in (*names, "vlrun_requests_waiting", "vlrun_body_bytes"))


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """Wait for a condition and return the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError("timed out")
        time.sleep(0.01)
    return time.monotonic() - began
