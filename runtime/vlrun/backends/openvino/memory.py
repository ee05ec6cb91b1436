"""How much memory this machine has for us, and how to need less of it. Knows /proc, cgroups and mapped files; does not
know what is in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from pathlib import Path

import openvino as ov

MIB = 2**20
CGROUPS = {"": ("/sys/fs/cgroup", "memory.max"), "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")}
"""Where a hierarchy of /proc/self/cgroup is, and its limit's file: version 2, which has no name, and version 1."""
WHERE_UNKNOWN = 4096 * MIB
MADV_DONTNEED = 4
"""Of madvise(2), the same on all architectures of Linux."""
RELEASE_SECONDS = 0.05
LARGE_BYTES = 4096
"""Constants from this size on lie in the weights' file; smaller ones may have been computed."""


def total_memory(root: Path = Path("/")) -> int:
    """Bytes of the machine, or of the cgroup that this process lives in if it has a smaller limit."""
    limits = [_installed(root)]
    for path in _limit_files(root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(_read(root, path)))
    return min(limits)


def _installed(root: Path) -> int:
    """Bytes of the machine as a container sees it, or, where a sandbox hides /proc/meminfo, as the kernel does."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_read(root, "/proc/meminfo").split("MemTotal:")[1].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0) or WHERE_UNKNOWN
    return WHERE_UNKNOWN


def _limit_files(root: Path) -> list[str]:
    """The limit files of our cgroups and of those around them, the outermost first: a container sees itself there."""
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


def give_back() -> None:
    """Give the system back what was freed. glibc keeps it, large arrays too once some have come and gone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class MappedWeights:
    """The mapped weights of a model, let go while a plugin makes its own copy of them in a ``with`` block, so that file
    and copy are never in memory both, whole.

    Only this process' view of the pages goes, and comes back from the page cache where it is needed after all. The
    mapping is found by the address of a weight in it, and the model is held until the end: an address range that was
    given back in between could belong to somebody else. The block may be entered again.
    """

    def __init__(self, model: ov.Model, path: Path) -> None:
        self._model = model
        self._name = os.path.realpath(path)
        self._address = _address_of_a_weight(model)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def release(self) -> None:
        """Let go of all pages of the mapping, unless somebody could have written to them."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, access, *_, name = line.split(maxsplit=5)
                start, end = (int(address, 16) for address in span.split("-"))
                if start <= self._address < end and name == self._name and "w" not in access:
                    self._libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)

    def __enter__(self) -> MappedWeights:
        self._done.clear()
        self._thread = threading.Thread(target=self._release_on, name="vlrun-release", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
        self.release()

    def _release_on(self) -> None:
        while not self._done.wait(RELEASE_SECONDS):
            self.release()


def _address_of_a_weight(model: ov.Model) -> int:
    """Where one of the model's large constants begins; 0 if it has none."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_byte_size() >= LARGE_BYTES:
            return int(node.data.ctypes.data)
    return 0
