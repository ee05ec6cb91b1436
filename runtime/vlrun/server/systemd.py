"""sd_notify(3): READY once the model has answered, WATCHDOG while the engine makes progress."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

EXTEND_SECONDS = 30
"""By which a start or stop is extended, again and again."""
MAX_START_SECONDS = 900.0
"""After which a loading model is considered hung. Compiling takes minutes on a slow machine."""


class SystemdNotifier:
    """Notifies systemd, if it listens. The arguments default to systemd's environment variables."""

    def __init__(self, address: str | None = None, watchdog_usec: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        usec = os.environ.get("WATCHDOG_USEC") if watchdog_usec is None else watchdog_usec
        self._watchdog = int(usec) / 1e6 if usec and usec.isdecimal() else None

    def ready(self) -> None:
        """The service answers."""
        self._send("READY=1\nSTATUS=ready")

    def stopping(self, seconds: float) -> None:
        """The service stops within these seconds and EXTEND_SECONDS more."""
        self._send(f"STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={int((seconds + EXTEND_SECONDS) * 1e6)}")

    async def watch(self, progressing: Callable[[], bool], started: Callable[[], bool]) -> None:
        """Extend the start while the model loads, then serve the watchdog while the engine makes progress."""
        pause = min(self._watchdog or EXTEND_SECONDS, EXTEND_SECONDS) / 3
        began = time.monotonic()
        while self._address:
            if started():
                if self._watchdog and progressing():
                    self._send("WATCHDOG=1")
            elif time.monotonic() - began < MAX_START_SECONDS:
                self._send(f"STATUS=loading\nEXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1_000_000}")
            await asyncio.sleep(pause)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), address)
