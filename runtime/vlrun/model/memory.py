"""How much memory this machine has for us. Knows /proc and cgroups; does not know what needs memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

MIB = 2**20
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of cgroup version 2 (as a container sees itself) and version 1."""
WHERE_UNKNOWN = 4096 * MIB


def total_memory(root: Path = Path("/")) -> int:
    """Bytes of the machine, or of the cgroup that this process lives in if it has a smaller limit."""
    limits = [WHERE_UNKNOWN]
    with contextlib.suppress(OSError, ValueError, IndexError):
        limits = [int(_read(root, "/proc/meminfo").split("MemTotal:")[1].split()[0]) * 1024]
    own = ""
    with contextlib.suppress(OSError):
        own = next((line[3:] for line in _read(root, "/proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    for path in (*CGROUP_LIMITS, *_ancestors(own)):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(_read(root, path)))
    return min(limits)


def _ancestors(own: str) -> list[str]:
    """The limit files of a cgroup and of those around it."""
    parts = [part for part in own.split("/") if part]
    return [f"/sys/fs/cgroup/{'/'.join(parts[:depth])}/memory.max" for depth in range(1, len(parts) + 1)]


def _read(root: Path, path: str) -> str:
    return (root / path.lstrip("/")).read_text(encoding="utf-8")
