"""Rows 1 and 2 of the fault table: a request can make the service open neither a socket nor a file (SSRF).

Three detectors: a listener on loopback, Python's audit events in the service's process, and strace where it may trace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.paths import EXAMPLES, ROOT
from tests.runtime.server.error_checks import assert_error, still_answers
from tests.runtime.server.http_client import QUESTION, Reply, chat_request, post, shelf_request, wait_until
from tests.runtime.server.running_server import Server, serving

HOOK = """
import os, sys
_LOG = os.open(os.environ["VLRUN_TEST_AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_NAMES = ("open", "socket.", "urllib.", "http.", "ftplib.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")
def _record(event, args):
    if event.startswith(_NAMES) and event != "socket.__new__":
        os.write(_LOG, f"{event} {args!r}\\n".encode("utf-8", "backslashreplace"))
sys.addaudithook(_record)
"""
"""Runs first in the service (sitecustomize)."""


@dataclass
class Trap:
    """A listening port and a readable image file that the service must not touch."""

    listener: socket.socket
    canary: Path
    link: Path

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def no_connection(self) -> bool:
        """Whether nothing has connected to the port since the last call."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("trap")
    canary, link = folder / "canary.png", folder / "link.png"
    shutil.copy(EXAMPLES / "shelf.png", canary)
    link.symlink_to(canary)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Trap(listener, canary, link)


@dataclass
class AuditedServer:
    """A service that logs each file and socket that it opens."""

    server: Server
    audit_log: Path

    def events(self) -> list[str]:
        return self.audit_log.read_text().splitlines()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedServer]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "sitecustomize.py").write_text(HOOK)
    audit_log = folder / "audit.log"
    paths = os.pathsep.join([str(folder), str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")])
    with serving(environment={"PYTHONPATH": paths, "VLRUN_TEST_AUDIT": str(audit_log)}) as server:
        yield AuditedServer(server, audit_log)


@pytest.fixture(autouse=True)
def service_survives(audited: AuditedServer) -> Iterator[None]:
    with still_answers(audited.server):
        yield


ADDRESSES = (
    "http://{host}/x.png",
    "https://{host}/x.png",
    "HTTP://{host}/x.png",
    "ftp://{host}/x.png",
    "gopher://{host}/x.png",
    "blob:http://{host}/x.png",
    "http:\\\\{host}\\x.png",
    "http:/\\{host}/x.png",
    "\\\\{host}\\x.png",
    "//{host}/x.png",
    " http://{host}/x.png",
    "\thttp://{host}/x.png",
    "http://user:password@{host}/x.png",
    "http://{host}/redirect?to=http://169.254.169.254/",
    "http://localhost:{port}/x.png",
    "http://2130706433:{port}/x.png",
    "http://0x7f.1:{port}/x.png",
    "http://[::1]:{port}/x.png",
    "http://169.254.169.254/latest/meta-data/",
    "url:http://{host}/x.png",
    " data:image/png;base64,http://{host}/x.png",
)
"""Row 1. Parsers that disagree, redirects, other notations of an address: each has bypassed an allow list."""
PATHS = (
    "file:///etc/passwd",
    "file://{canary}",
    "file:{canary}",
    "FILE://{canary}",
    "{canary}",
    "{link}",
    "file://localhost{link}",
    "/etc/passwd",
    "../../etc/passwd",
    "examples/shelf.png",
    "~/.ssh/id_rsa",
    "/proc/self/environ",
    "/dev/zero",
    "",
)
"""Row 2."""
DATA_URLS = (
    "data:http://{host}/x.png",
    "data://{host}/x.png",
    "data:image/png;base64,http://{host}/x.png",
    "data:image/png,file://{canary}",
    "data:file://{canary};base64,AAAA",
    "data:{canary}",
)
"""Both rows, in the body of a data URL."""
MESSAGE_URL = "messages[0].content[0].image_url.url"


def expand(address: str, trap: Trap) -> str:
    host = f"127.0.0.1:{trap.port}"
    return address.format(host=host, port=trap.port, canary=trap.canary, link=trap.link)


def chat(url: str) -> dict[str, Any]:
    return chat_request({"type": "image_url", "image_url": {"url": url}}, QUESTION)


def replies_of_all_endpoints(server: Server, url: str) -> list[tuple[Reply, str]]:
    """The response of each endpoint that takes an image URL, with the name of its URL field."""
    messages = chat(url)["messages"]
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    return [
        (post(server, chat(url)), MESSAGE_URL),
        (post(server, {**chat(url), "stream": True}), MESSAGE_URL),
        (post(server, {"messages": messages}, "/v1/tokenize"), MESSAGE_URL),
        (post(server, {"model": "vlrun-tiny", "input": [item]}, "/v1/responses"), "input[0].content[0].image_url"),
    ]


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("address", [*ADDRESSES, *PATHS])
def test_urls_and_paths_are_refused_unopened(audited: AuditedServer, trap: Trap, address: str) -> None:
    """CVE-2025-6242, CVE-2026-24779, CVE-2026-34753, CVE-2026-33626, CVE-2026-63764, CVE-2026-56712."""
    before = len(audited.events())
    for reply, param in replies_of_all_endpoints(audited.server, expand(address, trap)):
        assert_error(reply, 400, "url_not_allowed", param)
    assert_nothing_opened(audited.events()[before:])
    assert trap.no_connection()


@pytest.mark.fault(1)
@pytest.mark.parametrize("address", DATA_URLS)
def test_urls_inside_data_urls_are_not_opened(audited: AuditedServer, trap: Trap, address: str) -> None:
    before = len(audited.events())
    for reply, param in replies_of_all_endpoints(audited.server, expand(address, trap)):
        assert_error(reply, 400, "invalid_image", param)
    assert_nothing_opened(audited.events()[before:])
    assert trap.no_connection()


def assert_nothing_opened(events: list[str]) -> None:
    assert events == []


FORM = {"Content-Type": "multipart/form-data; boundary=B"}
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:%d/x.png'/></svg>"


def reference(trap: Trap) -> dict[str, Any]:
    return {"$ref": f"http://127.0.0.1:{trap.port}/schema.json"}


def format_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def tool_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def image_part(more: str, content: bytes) -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="image"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n--B--\r\n"


OTHER_FIELDS: dict[str, Callable[[Trap], object]] = {
    "a schema's reference": lambda trap: shelf_request(response_format=format_of(reference(trap))),
    "a schema's reference to a file": lambda trap: shelf_request(
        response_format=format_of({"$ref": f"file://{trap.canary}"})
    ),
    "a tool's reference": lambda trap: shelf_request(tools=[tool_of(reference(trap))], tool_choice="required"),
    "a form's text": lambda trap: image_part("", expand(ADDRESSES[0], trap).encode()),
    "a form's path": lambda trap: image_part("", str(trap.canary).encode()),
    "a file's name": lambda trap: image_part(f'; filename="{trap.canary}"', b""),
    "an SVG that refers": lambda trap: image_part('; filename="x.svg"', SVG % trap.port),
}


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("field", OTHER_FIELDS)
def test_no_other_field_opens_anything(audited: AuditedServer, trap: Trap, field: str) -> None:
    """A second code path has bypassed more than one allow list."""
    body = OTHER_FIELDS[field](trap)
    path, headers = ("/api/v1/chat", FORM) if isinstance(body, bytes) else ("/v1/chat/completions", {})
    before = len(audited.events())
    assert post(audited.server, body, path, headers).status in (400, 415)
    events = [event for event in audited.events()[before:] if str(trap.canary) in event or "socket." in event]
    assert_nothing_opened(events)
    assert trap.no_connection()


def test_the_detectors_work(audited: AuditedServer, trap: Trap) -> None:
    """Otherwise the tests above would prove nothing: the port accepts connections, and the audit log has events."""
    socket.create_connection(("127.0.0.1", trap.port)).close()
    assert not trap.no_connection()
    assert any(event.startswith("open") and "manifest.json" in event for event in audited.events())
    assert any(event.startswith("socket.bind") for event in audited.events())


@pytest.mark.fault(1, 2)
def test_strace_shows_no_file_and_no_connection(audited: AuditedServer, trap: Trap, tmp_path: Path) -> None:
    """C libraries open files and sockets without audit events."""
    pid, log = audited.server.process.pid, tmp_path / "strace"
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    calls = "trace=connect,sendto,sendmsg,open,openat,openat2,execve"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", calls, "-o", str(log), "-p", str(pid)])
    status = Path(f"/proc/{pid}/status")
    try:
        wait_until(lambda: tracer.poll() is not None or "TracerPid:\t0\n" not in status.read_text())
        if tracer.poll() is not None:
            pytest.skip("strace may not trace other processes here")
        for address in (*ADDRESSES, *PATHS, *DATA_URLS):
            assert post(audited.server, chat(expand(address, trap))).status == 400
        assert post(audited.server, shelf_request()).text == "6"
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
    lines = log.read_text().splitlines()
    assert any("HTTP/1.1 400" in line for line in lines), "strace recorded nothing"
    assert not [
        line for line in lines if re.search(r"connect\(|execve\(|sin_port|passwd|canary|link\.png|environ", line)
    ]
    assert trap.no_connection()
