"""A model hub on loopback that speaks the protocol of Hugging Face's, and fails as it is told.

``python tests/hub_server.py OWNER/NAME FOLDER`` publishes a folder, prints the address, and serves until it is killed.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 1 << 20
"""Files of this size have a SHA-256; smaller ones Git's hash."""
PIECE = 1 << 14
REVISION = re.compile(r"/api/models/([^/]+/[^/]+)/revision/(.+)")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Fault:
    """What happens to the next answers for a file (or for ``listing``).

    Attributes:
        status: An error status instead of an answer.
        headers: Further headers.
        cut_after: Bytes after which the connection is closed.
        damage: Changes the content.
        extra: Zero bytes that are sent after the content, without a length.
        seconds_per_piece: Makes the server slow.
        times: Answers that fail.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    damage: bool = False
    extra: int = 0
    ignore_range: bool = False
    seconds_per_piece: float = 0.0
    times: int = 1


@dataclass
class Published:
    """A repository. ``entries`` changes what the listing says of files, or adds files that do not exist."""

    files: dict[str, bytes]
    revisions: dict[str, str]
    private_token: str | None = None
    gated: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)


class HubServer(ThreadingHTTPServer):
    """The hub. ``requests`` records method, path and range of all that was asked for, ``authorizations`` the tokens."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Published] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.authorizations: list[str] = []

    @property
    def endpoint(self) -> str:
        """The address of the hub."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, name: str, files: Mapping[str, bytes | Path]) -> str:
        """Publish files as the newest commit of a repository, and return the commit."""
        contents = {file: part if isinstance(part, bytes) else part.read_bytes() for file, part in files.items()}
        digest = hashlib.sha1(name.encode())
        for file, content in sorted(contents.items()):
            digest.update(file.encode(errors="surrogatepass") + b"\0" + hashlib.sha1(content).digest())
        commit = digest.hexdigest()
        self.repositories[name] = Published(contents, {"main": commit, commit: commit})
        return commit

    def publish_folder(self, name: str, folder: Path) -> str:
        """Publish the files of a folder, without Python's."""
        return self.publish(
            name, {path.name: path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
        )

    def fetched(self) -> list[str]:
        """Return the names of the files that were asked for, in order."""
        return [match[3] for method, path, _ in self.requests if method == "GET" and (match := RESOLVE.fullmatch(path))]

    def take_fault(self, name: str) -> Fault | None:
        """Return the fault of this answer, if there is one."""
        fault = self.faults.get(name)
        if fault is None or fault.times == 0:
            return None
        fault.times -= 1
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


def entry_of(name: str, content: bytes) -> dict[str, Any]:
    """Return what a listing says of a file."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if len(content) >= LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Run a hub until the end of the block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="hub", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.authorizations.append(self.headers.get("Authorization", ""))
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        if match := REVISION.fullmatch(path):
            self._list(match[1], match[2])
        elif match := RESOLVE.fullmatch(path):
            self._send_file(*match.groups())
        else:
            self._fail(404)

    def _repository(self, name: str, revision: str) -> tuple[Published, str] | None:
        """Return a repository and its commit; without one, an error is sent."""
        published = self.server.repositories.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if published is None or (published.private_token and given != published.private_token):
            self._fail(401, {"X-Error-Code": "RepoNotFound"})
        elif published.gated and not given:
            self._fail(403, {"X-Error-Code": "GatedRepo"})
        elif revision not in published.revisions:
            self._fail(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return published, published.revisions[revision]
        return None

    def _list(self, name: str, revision: str) -> None:
        if (fault := self.server.take_fault("listing")) and fault.status:
            self._fail(fault.status, fault.headers)
            return
        if (found := self._repository(name, revision)) is None:
            return
        published, commit = found
        siblings = [entry_of(file, content) for file, content in published.files.items()]
        named = {entry["rfilename"]: entry for entry in published.entries if isinstance(entry["rfilename"], str)}
        siblings = [named.pop(entry["rfilename"], entry) for entry in siblings] + [
            entry for entry in published.entries if entry["rfilename"] in named
        ]
        body = json.dumps({"id": name, "modelId": name, "sha": commit, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, name: str, revision: str, file: str) -> None:
        fault = self.server.take_fault(file) or Fault()
        if fault.status:
            self._fail(fault.status, fault.headers)
            return
        if (found := self._repository(name, revision)) is None:
            return
        published, commit = found
        if file not in published.files:
            self._fail(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = published.files[file]
        if fault.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = self._start(len(content)) if not fault.ignore_range else 0
        if start is None:
            self._fail(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if not fault.extra:
            self.send_header("Content-Length", str(len(content) - start))
        else:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            self._send(content[start:] + bytes(fault.extra), fault)

    def _start(self, size: int) -> int | None:
        """Return the first byte that is asked for; None if there is none."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        return start if not start or start < size else None

    def _send(self, content: bytes, fault: Fault) -> None:
        end = len(content) if fault.cut_after is None else min(fault.cut_after, len(content))
        for position in range(0, end, PIECE):
            if fault.seconds_per_piece:
                time.sleep(fault.seconds_per_piece)
            self.wfile.write(content[position : min(position + PIECE, end)])
        if end < len(content):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _fail(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    with running_hub() as hub:
        hub.publish_folder(sys.argv[1], Path(sys.argv[2]))
        print(hub.endpoint, flush=True)
        threading.Event().wait()
