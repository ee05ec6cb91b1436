"""The processor: what Linux says about it, and how many of its threads are used."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def cpu_field(name: str) -> str:
    """Return a field of the first processor, such as ``model name`` or ``flags``; empty if it is unknown."""
    with suppress(OSError):
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == name:
                return value.strip()
    return ""


def count_threads(threads: int | None) -> str:
    """Return a number of threads as a phrase for users; None for all cores."""
    return "all cores" if not threads else f"{threads} thread{'s' if threads > 1 else ''}"
