"""Checks for the fault table: the shape of errors, no leaked internals, and a service that still works afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.runtime.server.http_client import post, shelf_request
from tests.runtime.server.running_server import Server

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
INTERNALS = re.compile(
    r"Traceback|Error\b|Exception|0x[0-9a-f]{4}|\.py\b|\bline \d|site-packages|<class|object at|127\.0\.0\.1"
    r"|msgspec|pillow|\bPIL\b|llguidance|jinja|openvino|tokenizers|starlette|uvicorn|h11|multipart\.|numpy|json\.",
    re.IGNORECASE,
)
"""Text from libraries, tracebacks, memory addresses or hosts."""
ALLOWED_SLASHES = re.compile(
    r"/docs lists|did you mean /[\w./]+|ends in /v1|application/[a-z-]+|multipart/form-data"
    r"|/1000\b|data:image/jpeg;base64,|image/[a-z]+|HTTP/1\.1|#/\S*"
)
"""Slashes in messages of vlrun; any other slash would be part of a path."""
ACCESS_LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d info "
    r"(request method=\S+ path=.{1,1300} status=\S+ seconds=\S+|refused status=\d+ code=\w+) client=.{1,299}"
)


class HttpReply(Protocol):
    """A response of either test client."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


def assert_error(reply: HttpReply, status: int, code: str, param: str | None = None, quoted: str = "") -> str:
    """Check status, code, param and shape of an error, and that it leaks no internals; return its message.

    ``quoted``: the part of the request that the message may repeat.
    """
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-should-retry"] == ("true" if "retry-after" in reply.headers else "false")
    body: dict[str, Any] = json.loads(reply.body)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error = body["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"] == TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    message: str = error["message"]
    text = ALLOWED_SLASHES.sub("", message.replace(quoted, "") if quoted else message)
    assert not INTERNALS.search(text), message
    assert "/" not in text
    assert 0 < len(message) <= 500
    assert message.isprintable()
    return message


@contextmanager
def still_answers(server: Server) -> Iterator[None]:
    """After the block, a normal request is answered correctly and the log has nothing but access log lines."""
    before = len(server.log)
    yield
    assert post(server, shelf_request()).text == "6"
    odd = [line for line in server.log[before:] if not ACCESS_LOG_LINE.fullmatch(line) or not line.isprintable()]
    assert not odd


def process_memory(server: Server, name: str = "VmRSS") -> float:
    """A value of /proc/PID/status in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


@contextmanager
def memory_growth_below(server: Server, mib: float) -> Iterator[None]:
    """During the block, the resident memory of the service grows by less than ``mib`` MiB."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # resets the peak: proc(5)
    before = process_memory(server)
    yield
    assert process_memory(server, "VmHWM") - before < mib
