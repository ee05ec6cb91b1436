"""Bounds what decoding an image may cost: processor time of one file, pixels of all files decoded at once.

Pillow reads an encoded file piece by piece, so a check at each read ends the decoding of files that are built to be
slow: thousands of JPEG scans, PNG chunks, GIF frames or TIFF directories. WebP and compressed TIFF are decoded in one
call, whose time the number of pixels bounds.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from vlrun.errors import MediaTooLarge

MAX_SECONDS = 10.0
"""Processor time of the decoding thread for one image, so that the result does not depend on the machine's load. The
slowest valid files measured here (89 megapixels, 16-bit RGBA PNG or progressive JPEG) take 2 to 6 s."""
SMALL_READ = 16
SMALL_READS = 64
"""Of reads of at most ``SMALL_READ`` bytes, every ``SMALL_READS``-th is checked: Pillow may read byte by byte."""
READ_BYTES = 4096
"""Bytes that a decoder gets at a time: few enough that checks come often, and that Ctrl+C is noticed."""


class EncodedFile(io.BytesIO):
    """An encoded image in memory. Reads raise MediaTooLarge once this thread has computed for ``seconds``."""

    def __init__(self, encoded: bytes, name: str, seconds: float = MAX_SECONDS) -> None:
        super().__init__(encoded)
        self._name = name
        self._seconds = seconds
        self._end = time.thread_time() + seconds
        self._small = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as io.BytesIO does."""
        if size is not None and 0 <= size <= SMALL_READ:
            self._small += 1
            if self._small % SMALL_READS:
                return super().read(size)
        if time.thread_time() > self._end:
            raise MediaTooLarge(f"{self._name} takes more than {self._seconds:g} s to decode, the limit")
        return super().read(size)


class PixelBudget:
    """Pixels that may be decoded at once, in all threads of a process. What exceeds it waits, first come first served.

    An image with more pixels than the budget is decoded alone. Never hold it twice in one thread.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self.held = 0

    def forget(self) -> None:
        """Release everything: in a forked process, the threads that held or awaited pixels are gone."""
        self._waiting.clear()
        self._changed = threading.Condition()
        self.held = 0

    @property
    def waiting(self) -> int:
        """Images that wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until ``pixels`` fit into the budget, and hold them for the block."""
        needed, ticket = min(pixels, self._pixels), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self.held + needed <= self._pixels)
                self.held += needed
            finally:  # also on Ctrl+C
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.held -= needed
                self._changed.notify_all()
