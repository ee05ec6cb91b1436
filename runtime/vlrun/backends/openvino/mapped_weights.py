"""Save memory while a plugin copies the weights: release the pages of the mapped file as it goes."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from pathlib import Path

import openvino as ov

MADV_DONTNEED = 4
"""From madvise(2); the same on all Linux architectures."""
RELEASE_SECONDS = 0.05
MIN_WEIGHT_BYTES = 4096
"""Constants of at least this size lie in the weights file; smaller ones may have been computed."""


def trim_heap() -> None:
    """Return freed memory to the system, which glibc would keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class MappedWeights:
    """Releases the pages of a model's mapped weights while a plugin copies them in a ``with`` block.

    Mapped file and copy are then never both fully in memory. Released pages come back from the page cache when needed.
    Afterwards few pages are read again: with 715 MB of decoder weights 1.2 MB after several answers, the rows of the
    embedding table, and with 130 MB of vision weights 2.3 MB. ``ModelFolder.check_unchanged`` guards those.

    The mapping is found by the address of a weight. The model is kept alive, because its address range could otherwise
    be reused. The block may be entered again.
    """

    def __init__(self, model: ov.Model) -> None:
        self._model = model
        self._address = _weight_address(model)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def release(self) -> None:
        """Release all pages of the mapping unless it is writable or has no file."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, access, _, _, inode, *_ = line.split(maxsplit=5)
                start, end = (int(address, 16) for address in span.split("-"))
                if start <= self._address < end and inode != "0" and "w" not in access:
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
