"""Use less memory while a plugin copies the weights: release the pages of the mapped file meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from pathlib import Path

import openvino as ov

MADV_DONTNEED = 4
"""Of madvise(2), the same on all architectures of Linux."""
RELEASE_SECONDS = 0.05
MIN_WEIGHT_BYTES = 4096
"""Constants from this size on lie in the weights file; smaller ones may have been computed."""


def trim_heap() -> None:
    """Return freed memory to the system. glibc keeps it, large arrays too once some have come and gone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class MappedWeights:
    """The mapped weights of a model, whose pages are released while a plugin makes its own copy in a ``with`` block, so
    that file and copy are never in memory both, whole.

    Only this process's view of the pages is released; it comes back from the page cache where it is needed. The mapping
    is found by the address of a weight in it. The model is held until the end, because an address range that was
    unmapped in between could belong to somebody else. The block may be entered again.
    """

    def __init__(self, model: ov.Model, path: Path) -> None:
        self._model = model
        self._name = os.path.realpath(path)
        self._address = _weight_address(model)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def release(self) -> None:
        """Release all pages of the mapping, unless it is writable."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, access, *_, name = line.split(maxsplit=5)
                start, end = (int(address, 16) for address in span.split("-"))
                if start <= self._address < end and name == self._name and "w" not in access:
                    self._libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)

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


def _weight_address(model: ov.Model) -> int:
    """Return the address of one of the model's large constants; 0 if it has none."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_byte_size() >= MIN_WEIGHT_BYTES:
            return int(node.data.ctypes.data)
    return 0
