"""Save memory while a plugin copies the weights: release the pages of the mapped file as it goes."""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import threading
from pathlib import Path

import openvino as ov

MADV_DONTNEED = 4
"""From madvise(2); the same on all Linux architectures."""
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
"""From mremap(2)."""
MAX_OWNED_BYTES = 64 * 2**20
"""Largest weights file whose pages are copied. The 2B model would need 0.3 GB for its embedding table alone."""
RELEASE_SECONDS = 0.02
FAILED = ctypes.c_void_p(-1).value
MIN_WEIGHT_BYTES = 4096
"""Constants of at least this size lie in the weights file; smaller ones may have been computed."""


class MappedWeights:
    """Releases the pages of a model's mapped weights while a plugin copies them in a ``with`` block.

    Mapped file and copy are then never both fully in memory. Released pages come back from the page cache when needed.
    Afterwards few are read again: the rows of the embedding table, and with 130 MB of vision weights 2.3 MB.
    ``ModelFolder.check_unchanged`` guards those. A first pass of a certain size reads more, which the plugin packs in
    another form (114 MiB with twenty tokens of the 2B model and AVX2), so the decoder releases pages after each pass.

    The mappings are found by the addresses of the weights: a model that was joined from several has as many. The model
    is kept alive, because its address ranges could otherwise be reused. The block may be entered again.
    """

    def __init__(self, model: ov.Model) -> None:
        self._model = model
        self._addresses = _weight_addresses(model)
        self._libc = ctypes.CDLL(None, use_errno=True)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._libc.mmap.argtypes, self._libc.mmap.restype = (pointer, size, number, number, number, size), pointer
        self._libc.mremap.argtypes, self._libc.mremap.restype = (pointer, size, size, number, pointer), pointer
        self._libc.madvise.argtypes = (pointer, size, number)
        self._areas = self._mappings()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def release(self) -> None:
        """Release all pages of the mappings, but not of those that are writable or have no file."""
        for start, size in self._areas:
            self._libc.madvise(start, size, MADV_DONTNEED)

    def own(self) -> None:
        """Replace small mappings by copies of their pages in memory, so that the file may be cut short without SIGBUS.

        The kernel exchanges the pages in one step, so the model may be running.
        """
        small = [area for area in self._areas if area[1] <= MAX_OWNED_BYTES]
        self._areas = [area for area in self._areas if area not in small]  # a copy must never be released
        for start, size in small:
            self._own(start, size)

    def _own(self, start: int, size: int) -> None:
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        copy = self._libc.mmap(None, size, protection, flags, -1, 0)
        if copy == FAILED:
            return
        ctypes.memmove(copy, start, size)
        self._libc.mprotect(ctypes.c_void_p(copy), ctypes.c_size_t(size), mmap.PROT_READ)
        if self._libc.mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start) == FAILED:
            self._libc.munmap(ctypes.c_void_p(copy), ctypes.c_size_t(size))

    def _mappings(self) -> list[tuple[int, int]]:
        """Return start and size of the mappings of files that are not writable and still have a file.

        The plugin splits a mapping into areas, which follow each other in memory and in the file.
        """
        areas: list[tuple[int, int, str]] = []
        following = 0  # the offset in the file at which the last area ended
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, access, offset, device, inode = line.split(maxsplit=5)[:5]
                low, high = (int(address, 16) for address in span.split("-"))
                file = f"{access} {device} {inode}"
                if areas and (areas[-1][1], following, areas[-1][2]) == (low, int(offset, 16), file):
                    areas[-1] = (areas[-1][0], high, file)
                else:
                    areas.append((low, high, file))
                following = int(offset, 16) + high - low
        return [
            (start, end - start)
            for start, end, file in areas
            if "w" not in file.split()[0] and file.split()[-1] != "0" and self._has_weights(start, end)
        ]

    def _has_weights(self, start: int, end: int) -> bool:
        index = bisect.bisect_left(self._addresses, start)
        return index < len(self._addresses) and self._addresses[index] < end

    def __enter__(self) -> MappedWeights:
        self._done.clear()
        self._thread = threading.Thread(target=self._release_repeatedly, name="vlrun-release", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
        self.release()

    def _release_repeatedly(self) -> None:
        while not self._done.wait(RELEASE_SECONDS):
            self.release()


def _weight_addresses(model: ov.Model) -> list[int]:
    """Return the addresses of the model's large constants in increasing order."""
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    return sorted(int(node.data.ctypes.data) for node in constants if node.get_byte_size() >= MIN_WEIGHT_BYTES)
