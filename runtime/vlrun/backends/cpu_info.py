"""What Linux says about the processor."""

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
