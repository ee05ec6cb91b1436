"""What every refusal must look like, and that the service is as well afterwards as it was before.

Knows the shape of errors and the log's lines; knows no fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.runtime.server.http_client import post, shelf
from tests.runtime.server.running_server import Server

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
FOREIGN = re.compile(
    r"Traceback|Error\b|Exception|0x[0-9a-f]{4}|\.py\b|\bline \d|site-packages|<class|object at|127\.0\.0\.1"
    r"|msgspec|pillow|\bPIL\b|llguidance|jinja|openvino|tokenizers|starlette|uvicorn|h11|multipart\.|numpy|json\.",
    re.IGNORECASE,
)
"""Words of libraries, of Python, of addresses in memory or of machines."""
OWN = re.compile(
    r"/docs lists|application/json|multipart/form-data|data:image/jpeg;base64,|image/[a-z]+|HTTP/1\.1|#/\S*"
)
"""The slashes that our own words have: all others begin a path."""
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d info request method=\S+ path=.{1,1300} status=\S+ seconds=\S+ .{1,99}"
)


class Answered(Protocol):
    """An answer, whichever client got it."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


def refused(reply: Answered, status: int, code: str, param: str | None = None, quoted: str = "") -> str:
    """The message of a refusal, which has this status, code and param, OpenAI's shape, and nobody's words but ours.
    ``quoted``: what of the request it may repeat.
    """
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-should-retry"] == ("true" if "retry-after" in reply.headers else "false")
    received: dict[str, Any] = json.loads(reply.body)
    assert set(received) == {"error"}
    assert set(received["error"]) == {"message", "type", "param", "code"}
    error = received["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"] == TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    message: str = error["message"]
    ours = OWN.sub("", message.replace(quoted, "") if quoted else message)
    assert not FOREIGN.search(ours), message
    assert "/" not in ours
    assert 0 < len(message) <= 500
    assert message.isprintable()
    return message


@contextmanager
def unharmed(server: Server) -> Iterator[None]:
    """Whatever comes in this block, the next normal request is answered right, and the log has lines of ours alone."""
    before = len(server.log)
    yield
    assert post(server, shelf()).text == "6"
    odd = [line for line in server.log[before:] if not LINE.fullmatch(line) or not line.isprintable()]
    assert not odd


def memory(server: Server, name: str = "VmRSS") -> float:
    """A figure of /proc/PID/status, in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


@contextmanager
def little_memory(server: Server, most: float) -> Iterator[None]:
    """At no moment of this block does the service have ``most`` MiB more than at its beginning."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak starts anew: proc(5)
    before = memory(server)
    yield
    assert memory(server, "VmHWM") - before < most
