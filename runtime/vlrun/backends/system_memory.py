"""The memory that this process may use: that of the machine, or the limit of its cgroup."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MIB = 2**20
CGROUPS = {"": ("/sys/fs/cgroup", "memory.max"), "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")}
"""Mount point and limit file by hierarchy name in /proc/self/cgroup: version 2 (no name) and version 1."""
FALLBACK = 4096 * MIB
"""Assumed if the memory size is unknown."""


def total_memory(root: Path = Path("/")) -> int:
    """Return the machine's memory in bytes, or the limit of this process's cgroup if that is smaller."""
    limits = [_installed(root)]
    for path in _limit_files(root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(_read(root, path)))
    return min(limits)


def _installed(root: Path) -> int:
    """Return MemTotal, or the kernel's page count where a sandbox hides /proc/meminfo."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_read(root, "/proc/meminfo").split("MemTotal:")[1].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0) or FALLBACK
    return FALLBACK


def _limit_files(root: Path) -> list[str]:
    """Return the limit files of the process's cgroups and their ancestors, outermost first."""
    own = dict.fromkeys(CGROUPS, "")
    with contextlib.suppress(OSError, ValueError):
        for line in _read(root, "/proc/self/cgroup").splitlines():
            _, names, path = line.split(":", 2)
            own |= {name: path for name in names.split(",") if name in CGROUPS}
    found = []
    for name, (mount, file) in CGROUPS.items():
        parts = [part for part in own[name].split("/") if part]
        found += ["/".join((mount, *parts[:depth], file)) for depth in range(len(parts) + 1)]
    return found


def _read(root: Path, path: str) -> str:
    return (root / path.lstrip("/")).read_text(encoding="utf-8")
