"""Runs ``server.decoder`` as a process, so that the files that break decoders do not break the service."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec
import numpy as np

from vlrun.engine.request import Cancellation
from vlrun.errors import (
    AnswerCancelled,
    DamagedMedia,
    MediaError,
    MediaNotFound,
    MediaTooLarge,
    MissingExtra,
    UnsupportedMedia,
)
from vlrun.media.pdf import MAX_PAGE_PIXELS
from vlrun.server.decoder import NAME, SECONDS, Opening, Pixels, Reply, Request

MAX_PROCESSES = 2
"""At once, in all requests: a file that takes long must not stop all others. They may need twice their ``MEMORY``."""
MAX_REPLY = 2**20
"""Bytes of a reply without its pixels."""
COMMAND = (sys.executable, "-P", "-m", "vlrun.server.decoder")
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Threads would take processor time of the model, and address space."""
_WAIT_SECONDS = 0.1
_END_SECONDS = 2.0
"""Time for a process to end after it closed its output."""
_ERRORS = {kind.__name__: kind for kind in (DamagedMedia, MediaTooLarge, MediaNotFound, UnsupportedMedia)}
_TURNS = threading.BoundedSemaphore(MAX_PROCESSES)


class DecoderProcess:
    """A process that has one file.

    Args:
        opening: What kind of file it is, with its limits.
        encoded: The file.
        cancellation: Ends the process.
        command: Replaces the module, for tests.
    """

    def __init__(
        self, opening: Opening, encoded: bytes, cancellation: Cancellation, command: Sequence[str] = COMMAND
    ) -> None:
        self._cancellation = cancellation
        self._max_pixels = max(opening.max_pixels, MAX_PAGE_PIXELS)
        self._seconds = SECONDS[opening.kind]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # Ctrl+C is handled here
        )
        cancellation.add_done_callback(lambda _: self._process.kill())
        self._send(msgspec.json.encode(opening) + b"\n" + encoded)

    def ask(self, request: Request) -> None:
        """Send a request, which has one reply or several."""
        self._send(msgspec.json.encode(request) + b"\n")

    def reply(self) -> Reply:
        """Read a reply. Raises MediaError for what is wrong with the file, AnswerCancelled if nobody needs it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline(MAX_REPLY)
        try:
            reply = msgspec.json.decode(line, type=Reply)
        except msgspec.MsgspecError:
            raise self._failure() from None
        if reply.error:
            raise _error(reply)
        return reply

    def pixels(self, reply: Reply) -> Pixels:
        """Read the pixels that follow a reply. Raises as ``reply``."""
        assert self._process.stdout is not None
        if reply.shape is None or min(reply.shape) < 1 or math.prod(reply.shape) > self._max_pixels:
            raise self._failure()
        rgb = np.empty((*reply.shape, 3), np.uint8)
        if self._process.stdout.readinto(rgb.data.cast("B")) != rgb.nbytes:  # type: ignore[attr-defined]
            raise self._failure()
        return rgb

    def close(self) -> None:
        """End the process, also one that still works."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reported when the reply is missing
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def _failure(self) -> Exception:
        """Return why there is no reply."""
        if self._cancellation.cancelled():
            return AnswerCancelled("the answer was cancelled")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        if self._process.returncode == -signal.SIGXCPU:
            return MediaTooLarge(f"{NAME} takes more than {self._seconds} s to decode, the limit")
        return DamagedMedia(f"{NAME} cannot be decoded: it is damaged, or needs too much memory")


def _error(reply: Reply) -> MediaError:
    if reply.extra:
        return MissingExtra(reply.message, reply.extra)
    return _ERRORS.get(reply.error, DamagedMedia)(reply.message)


@contextmanager
def decoding(opening: Opening, encoded: bytes, cancellation: Cancellation) -> Iterator[DecoderProcess]:
    """A process for a block, when one may be started. Raises AnswerCancelled."""
    while not _TURNS.acquire(timeout=_WAIT_SECONDS):
        if cancellation.cancelled():
            raise AnswerCancelled("the answer was cancelled")
    try:
        process = DecoderProcess(opening, encoded, cancellation)
        try:
            yield process
        finally:
            process.close()
    finally:
        _TURNS.release()
