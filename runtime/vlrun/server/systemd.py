"""What the service tells systemd, and when: sd_notify(3), without a library.

READY once the model has answered; WATCHDOG as long as the engine makes progress. Knows the protocol; does not know what
progress is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

EXTEND_SECONDS = 30
"""How much longer a start or stop may take, told anew in good time."""
LONGEST_START = 900.0
"""Seconds after which a model that has not answered is taken to hang. Compiling takes minutes on a slow box."""


class SystemdNotifier:
    """Speaks to systemd, if it listens."""

    def __init__(self, address: str | None = None, watchdog_usec: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        usec = os.environ.get("WATCHDOG_USEC") if watchdog_usec is None else watchdog_usec
        self._watchdog = int(usec) / 1e6 if usec and usec.isdecimal() else None

    def ready(self) -> None:
        """The service answers."""
        self._send("READY=1\nSTATUS=ready")

    def stopping(self, seconds: float) -> None:
        """It stops: running answers have so long, and what hangs is ended within EXTEND_SECONDS after that."""
        self._send(f"STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={int((seconds + EXTEND_SECONDS) * 1e6)}")

    async def watch(self, progressing: Callable[[], bool], started: Callable[[], bool]) -> None:
        """Say that all is well for as long as it is; before it is started, that the start takes longer."""
        pause = min(self._watchdog or EXTEND_SECONDS, EXTEND_SECONDS) / 3
        began = time.monotonic()
        while self._address:
            if started():
                if self._watchdog and progressing():
                    self._send("WATCHDOG=1")
            elif time.monotonic() - began < LONGEST_START:
                self._send(f"STATUS=loading\nEXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1_000_000}")
            await asyncio.sleep(pause)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), address)
