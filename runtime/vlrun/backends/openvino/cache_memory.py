"""The memory of a KV cache: who allocates it depends on the device, and so does how much of it may be taken."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov

from vlrun.backends.openvino.device import Device
from vlrun.backends.openvino.hints import is_cpu
from vlrun.types.arrays import Bytes

CPU_SHARE = 4
"""On a CPU the KV cache may take a fourth of the memory, which is used only as the cache fills."""
GPU_SHARE = 8
"""On a GPU it takes at most an eighth, because a driver commits all of it at once."""
MAX_GPU_BYTES = 2 * 2**30
"""And not more than this: about 35,000 tokens of a 2B model at 8 bits."""


@dataclass(frozen=True)
class CacheMemory:
    """The cache of one port: the tensor for the infer request, and its bytes ``[blocks, bytes]`` for the host."""

    tensor: ov.Tensor
    cells: Bytes


def default_cache_bytes(device: str, total: int) -> int:
    """Return how much of ``total`` bytes of memory the KV cache of a device may take by default."""
    if is_cpu(device):
        return total // CPU_SHARE
    return min(total // GPU_SHARE, MAX_GPU_BYTES)


def allocate_cache(device: Device, element_type: ov.Type, shape: Sequence[int]) -> CacheMemory:
    """Allocate the zeroed cache of one port, whose first dimension is the number of blocks.

    The CPU plugin works on the memory of a NumPy array: zero pages, mapped on first use. They are small pages, because
    the first block of each port would take a huge one, 2 MiB for 40 KiB: 112 MiB in the 2B model. The GPU plugin would
    copy such an array in on each call and never write back, so it allocates the memory, which the host can address too.

    Raises:
        MemoryError: There is not enough memory.
    """
    if is_cpu(device.hints.device):
        cells = np.frombuffer(_zero_pages(math.prod(shape) * element_type.size), np.uint8)
        return CacheMemory(ov.Tensor(cells, ov.Shape(shape), element_type), cells.reshape(shape[0], -1))
    try:
        context = device.core.get_default_context(device.hints.device)
        tensor = context.create_host_tensor(element_type, ov.Shape(shape))
    except RuntimeError as error:
        raise MemoryError(str(error)) from error
    cells = tensor.data.reshape(-1).view(np.uint8).reshape(shape[0], -1)
    cells[:] = 0
    return CacheMemory(tensor, cells)


def _zero_pages(size: int) -> mmap.mmap:
    """Map anonymous memory. Raises MemoryError."""
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    with contextlib.suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages
