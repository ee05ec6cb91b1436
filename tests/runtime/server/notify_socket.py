"""A service process with a fake systemd: records the messages on NOTIFY_SOCKET and their times."""

from __future__ import annotations

import io
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.paths import ROOT
from tests.runtime.server.http_client import wait_until
from tests.runtime.server.running_server import LISTENING, READY, Server
from vlrun.embedded import FOLDER

WATCHDOG = 1.2
"""Seconds after which systemd would kill the service; it notifies three times as often."""


@dataclass(frozen=True)
class Notification:
    """One datagram. ``moment``: when it arrived, on the monotonic clock."""

    moment: float
    text: str


class NotifyListener:
    """Records every datagram sent to ``address``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[Notification] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while text := self._socket.recv(4096).decode():
                self.messages.append(Notification(time.monotonic(), text))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def times(self, word: str) -> list[float]:
        """When the messages that contain ``word`` arrived."""
        return [message.moment for message in list(self.messages) if word in message.text]

    def watchdog_fed(self, seconds: float = WATCHDOG) -> bool:
        """Whether the watchdog was fed in the last ``seconds``."""
        return any(time.monotonic() - moment < seconds for moment in self.times("WATCHDOG=1"))

    def longest_pause(self, since: float) -> float:
        """The longest time between two watchdog notifications from ``since`` until now."""
        moments = [since, *(moment for moment in self.times("WATCHDOG=1") if moment > since), time.monotonic()]
        return max(after - before for before, after in itertools.pairwise(moments))


class CommandServer(Server):
    """A service that another command starts. ``descriptors``: open files it inherits."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str] | None = None, descriptors: Sequence[int] = ()
    ) -> None:
        paths = os.pathsep.join([str(ROOT / "runtime"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": paths} | (environment or {}),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            text=True,
        )
        self.log: list[str] = []
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send_command(self, fault: str) -> None:
        """Send a fault to ``faulty_service`` and wait until it is in effect."""
        before = self.log.count(f"fault {fault}")
        if self.process.stdin:
            self.process.stdin.write(f"{fault}\n")
            self.process.stdin.flush()
        wait_until(lambda: self.log.count(f"fault {fault}") > before)

    def kill(self) -> None:
        self.process.kill()
        self.wait_for_exit()
        if self.process.stdin:
            self.process.stdin.close()


@dataclass(frozen=True)
class NotifyingServer:
    """A ``faulty_service``, and the notifications that it sends to systemd."""

    service: CommandServer
    listener: NotifyListener

    @contextmanager
    def injected(self, fault: str) -> Iterator[None]:
        """Inject a fault for a block."""
        self.service.send_command(fault)
        try:
            yield
        finally:
            self.service.send_command("restore")


@contextmanager
def notifying_server(
    model: Path = FOLDER, compile_delay: float = 0.0, refuse_model: bool = False
) -> Iterator[NotifyingServer]:
    """Start a ``faulty_service`` and wait until it listens; its model may still load.

    ``compile_delay``: seconds added to compiling. ``refuse_model``: compiling fails after that.
    """
    listener = NotifyListener(f"@vlrun-test-{os.getpid()}-{time.monotonic_ns()}")
    variables = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
    arguments = str(model), str(compile_delay), "refuse" if refuse_model else ""
    service = CommandServer([sys.executable, "-m", "tests.runtime.server.faulty_service", *arguments], variables)
    try:
        service.url = service.wait_for(LISTENING)[1]
        yield NotifyingServer(service, listener)
    finally:
        service.kill()
        listener.close()


@contextmanager
def ready_server() -> Iterator[NotifyingServer]:
    """Start a ``faulty_service`` and wait until it is ready."""
    with notifying_server() as running:
        running.service.wait_for(READY)
        yield running


def noise(side: int = 1300) -> bytes:
    """A PNG of incompressible pixels: 5 MB."""
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def form(image: bytes, query: str) -> tuple[bytes, str, dict[str, str]]:
    """Body, path and headers of a multipart request to /api/v1/chat."""
    boundary = "----form"
    fields = f'--{boundary}\r\nContent-Disposition: form-data; name="query"\r\n\r\n{query}\r\n'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\n\r\n'
    body = fields.encode() + head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return body, "/api/v1/chat", {"Content-Type": f"multipart/form-data; boundary={boundary}"}
