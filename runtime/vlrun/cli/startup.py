"""What comes before all imports: Ctrl+C while modules are imported, and standard streams that are closed."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_IMPORT_SYSTEM = "<frozen importlib"
"""Begins the file name of the frames of Python's import system."""


def end_imports_on_interrupt() -> None:
    """Make Ctrl+C end the process at once while a module is imported. Otherwise it raises KeyboardInterrupt, as before.

    A module that is interrupted in the middle may turn KeyboardInterrupt into another error, or only print it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    caller = frame
    while caller is not None:
        if caller.f_code.co_filename.startswith(_IMPORT_SYSTEM):
            descriptor = sys.__stderr__.fileno() if sys.__stderr__ else 2
            erase = b"\r\x1b[K" if os.isatty(descriptor) else b""  # the progress line
            os.write(descriptor, erase + b"vlrun: interrupted\n")
            os._exit(EXIT_INTERRUPTED)
        caller = caller.f_back
    signal.default_int_handler(number, frame)


def open_standard_streams() -> None:
    """Open the standard streams that are closed, so that no other file gets their descriptors and their content.

    Writing to a closed stdout fails, as it does for other programs; what is written to a closed stderr is lost.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest descriptor, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
