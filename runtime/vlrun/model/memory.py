"""How much memory this machine has for us, and how to need less of it. Knows /proc, cgroups and mapped files; does not
know what is in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path

MIB = 2**20
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of cgroup version 2 (as a container sees itself) and version 1."""
WHERE_UNKNOWN = 4096 * MIB
MADV_DONTNEED = 4
"""Of madvise(2), the same on all architectures of Linux."""
RELEASE_SECONDS = 0.05


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


class MappedFiles:
    """Mapped files whose pages are let go while and after somebody makes a copy of them, as a plugin does of weights.

    Only this process' view of them goes, and comes back from the page cache where it is needed after all. In a ``with``
    block this happens all the time, so that file and copy are never in memory both, whole.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._names = [os.path.realpath(path) for path in paths]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._release_on, name="vlrun-release", daemon=True)

    def release(self) -> None:
        """Let go of all pages that are mapped now, unless somebody could have written to them."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, access, *_, name = line.split(maxsplit=5)
                if name in self._names and "w" not in access:
                    start, end = (int(address, 16) for address in span.split("-"))
                    self._libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)

    def __enter__(self) -> MappedFiles:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.release()

    def _release_on(self) -> None:
        while not self._done.wait(RELEASE_SECONDS):
            self.release()
