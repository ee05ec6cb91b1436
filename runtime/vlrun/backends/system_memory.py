"""The memory that this process may use, and whether a model fits: the machine's, or the limit of its control group.

Linux kills a process that exceeds the limit without a word, so this is checked before a model is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import DeviceError, OptionError
from vlrun.manifest import Manifest
from vlrun.types.cache_config import CacheConfig

MIB = 2**20
GB = 10**9
FALLBACK = 4096 * MIB
"""Assumed if the memory size is unknown."""
BASE_MEMORY = 400 * MIB
"""Process without weights and KV cache: Python, OpenVINO and compiled kernels (measured with the 2B model)."""
LEAST_BASE_MEMORY = 64 * MIB
"""What the interpreter and OpenVINO alone take at least."""
COPY_PERCENT = 110
"""Memory of the plugin's own copy of the weights, in percent of their files (1.9 GB for 1.72 GB in the 2B model)."""


@dataclass(frozen=True)
class _Hierarchy:
    """Where a version of control groups has its limits; ``name`` is that in /proc/self/cgroup."""

    name: str
    mount: str
    limit: str
    usage: str
    swap: str
    cached: str


HIERARCHIES = (
    _Hierarchy("", "/sys/fs/cgroup", "memory.max", "memory.current", "memory.swap.max", "inactive_file"),
    _Hierarchy(
        "memory",
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "no such file",  # version 1 limits the sum
        "total_inactive_file",
    ),
)


def trim_heap() -> None:
    """Return freed memory to the system, which glibc would keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def total_memory(root: Path = Path("/")) -> int:
    """Return the machine's memory in bytes, or the limit of this process's control group if that is smaller."""
    return min([_installed(root), *(limit for _, _, limit in _limits(root))])


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still take: free ones, and those of files that can be read again."""
    free = [_meminfo(root, "MemAvailable") or _installed(root)]
    for hierarchy, path, limit in _limits(root):
        with contextlib.suppress(OSError, ValueError):
            used, cached = int(_read(root, f"{path}/{hierarchy.usage}")), 0
            with contextlib.suppress(OSError, ValueError):
                statistics = dict(line.split() for line in _read(root, f"{path}/memory.stat").splitlines())
                cached = int(statistics.get(hierarchy.cached, 0))
            free.append(max(0, limit - used + cached))
    return min(free)


def check_memory(
    manifest: Manifest, cache: CacheConfig, *, certain: bool = True, root: Path = Path("/")
) -> tuple[str, ...]:
    """Check the memory for a model before it is loaded, and return a note if it seems to be too little.

    Args:
        manifest: The model.
        cache: What is kept in memory; a KV cache of default size takes what is left.
        certain: Whether the weights will surely be copied into this memory, as they are on the CPU.
        root: Where /proc and /sys lie.

    Raises:
        DeviceError: The decoder's weights alone exceed memory and swap space.
        OptionError: The KV cache may take more than there is.
    """
    decoder, vision = manifest.weight_bytes()
    total = total_memory(root)
    limit = "this machine has" if total == _installed(root) else "the limit of this process is"
    if cache.kv_memory is not None and cache.kv_memory > total:
        raise OptionError(f"kv_memory is {cache.kv_memory // MIB:,} MiB, but {limit} {total // MIB:,} MiB")
    if certain and decoder + LEAST_BASE_MEMORY > total + _swap(root):
        raise DeviceError(
            f"the model needs at least {(decoder + LEAST_BASE_MEMORY) / GB:.1f} GB of memory, but {limit} "
            f"{total / GB:.1f} GB: raise the limit, or export a smaller model"
        )
    weights = decoder + vision if cache.keep_vision_encoder else max(decoder, vision)
    needed = weights * COPY_PERCENT // 100 + BASE_MEMORY + (cache.kv_memory or 0)
    available = available_memory(root)
    if needed <= available:
        return ()
    note = (
        f"the model needs about {needed / GB:.1f} GB of memory, {limit} {total / GB:.1f} GB, and "
        f"{available / GB:.1f} GB are free: it may be slow, or be killed by the system"
    )
    return (note,)


def _installed(root: Path) -> int:
    """Return MemTotal, or the kernel's page count where a sandbox hides /proc/meminfo."""
    if installed := _meminfo(root, "MemTotal"):
        return installed
    with contextlib.suppress(OSError, ValueError):
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0) or FALLBACK
    return FALLBACK


def _meminfo(root: Path, field: str) -> int:
    """Return a field of /proc/meminfo in bytes; 0 if it is missing."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_read(root, "/proc/meminfo").split(f"{field}:")[1].split()[0]) * 1024
    return 0


def _swap(root: Path) -> int:
    """Return the swap space that this process may use."""
    sizes = [_meminfo(root, "SwapTotal")]
    for hierarchy, path in _groups(root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            sizes.append(int(_read(root, f"{path}/{hierarchy.swap}")))
    return min(sizes)


def _limits(root: Path) -> Iterator[tuple[_Hierarchy, str, int]]:
    """Yield the control groups that have a limit, with it."""
    for hierarchy, path in _groups(root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            yield hierarchy, path, int(_read(root, f"{path}/{hierarchy.limit}"))


def _groups(root: Path) -> Iterator[tuple[_Hierarchy, str]]:
    """Yield the folders of the process's control groups and of those around them, outermost first."""
    own = {hierarchy.name: "" for hierarchy in HIERARCHIES}
    with contextlib.suppress(OSError, ValueError):
        for line in _read(root, "/proc/self/cgroup").splitlines():
            _, names, path = line.split(":", 2)
            own |= {name: path for name in names.split(",") if name in own}
    for hierarchy in HIERARCHIES:
        parts = [part for part in own[hierarchy.name].split("/") if part]
        for depth in range(len(parts) + 1):
            yield hierarchy, "/".join((hierarchy.mount, *parts[:depth]))


def _read(root: Path, path: str) -> str:
    return (root / path.lstrip("/")).read_text(encoding="utf-8")
