"""A service under the eyes of a systemd that is played: what it says on its NOTIFY_SOCKET, and when."""

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
"""Seconds after which systemd would kill the service; it speaks three times as often."""


@dataclass(frozen=True)
class Notification:
    """What was said at a moment of the monotonic clock."""

    moment: float
    text: str


class NotifyListener:
    """Hears everything that is sent to ``address``."""

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
        """Hear no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def times(self, word: str) -> list[float]:
        """When messages with that word came."""
        return [message.moment for message in list(self.messages) if word in message.text]

    def watchdog_fed(self, seconds: float = WATCHDOG) -> bool:
        """Whether the watchdog was fed in the last ``seconds``."""
        return any(time.monotonic() - moment < seconds for moment in self.times("WATCHDOG=1"))

    def longest_pause(self, since: float) -> float:
        """Between two meals of the watchdog since that moment, and up to now."""
        moments = [since, *(moment for moment in self.times("WATCHDOG=1") if moment > since), time.monotonic()]
        return max(after - before for before, after in itertools.pairwise(moments))


class CommandServer(Server):
    """A service that another command starts, with further descriptors. It takes orders on its standard input."""

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
        """Have it suffer, and wait until it does."""
        before = self.log.count(f"suffers {what}")
        if self.process.stdin:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        wait_until(lambda: self.log.count(f"suffers {what}") > before)

    def kill(self) -> None:
        """However it is."""
        self.process.kill()
        self.wait_for_exit()
        if self.process.stdin:
            self.process.stdin.close()


@dataclass(frozen=True)
class NotifyingServer:
    """A faulty service, and what systemd hears of it."""

    service: CommandServer
    listener: NotifyListener

    @contextmanager
    def injected(self, fault: str) -> Iterator[None]:
        """Something is wrong for a block."""
        self.service.send_command(fault)
        try:
            yield
        finally:
            self.service.send_command("heal")


@contextmanager
def notifying_server(
    model: Path = FOLDER, compile_delay: float = 0.0, refuse_model: bool = False
) -> Iterator[NotifyingServer]:
    """A faulty service as soon as it listens; one that compiles ``late`` is loading for so many seconds at
    least, and may ``refuse`` the model then.
    """
    listener = NotifyListener(f"@vlrun-test-{os.getpid()}-{time.monotonic_ns()}")
    received = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
    arguments = str(model), str(compile_delay), "refuse" if refuse_model else ""
    service = CommandServer([sys.executable, "-m", "tests.runtime.server.faulty_service", *arguments], received)
    try:
        service.url = service.wait_for(LISTENING)[1]
        yield NotifyingServer(service, listener)
    finally:
        service.kill()
        listener.close()


@contextmanager
def ready_server() -> Iterator[NotifyingServer]:
    """One that answers."""
    with notifying_server() as one:
        one.service.wait_for(READY)
        yield one


def noise(side: int = 1300) -> bytes:
    """A PNG of 3 bytes a pixel, which cannot be packed: 5 MB."""
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def form(image: bytes, query: str) -> tuple[bytes, str, dict[str, str]]:
    """Body, path and headers of the tutorials' form."""
    boundary = "----form"
    fields = f'--{boundary}\r\nContent-Disposition: form-data; name="query"\r\n\r\n{query}\r\n'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\n\r\n'
    body = fields.encode() + head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return body, "/api/v1/chat", {"Content-Type": f"multipart/form-data; boundary={boundary}"}
