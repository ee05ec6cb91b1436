"""Memory of the KV cache: whose it is, and how much of it, depends on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from vlrun.backends.openvino.cache_memory import MAX_GPU_BYTES, allocate_cache, default_cache_bytes
from vlrun.backends.openvino.device import Device
from vlrun.backends.openvino.hints import Hints

GIB = 2**30


class FakeContext:
    """A GPU context whose host memory is not zeroed, as that of drivers is not, and limited to ``room`` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def create_host_tensor(self, element_type: ov.Type, shape: ov.Shape) -> ov.Tensor:
        tensor = ov.Tensor(element_type, shape)
        if tensor.byte_size > self.room:
            raise RuntimeError("Exception from allocator.cpp:1:\n[GPU] clHostMemAllocINTEL failed: -6")
        tensor.data.view(np.uint8)[:] = 255
        return tensor


class FakeCore:
    def __init__(self, room: int = GIB) -> None:
        self.room = room

    def get_default_context(self, device: str) -> FakeContext:
        assert device.startswith("GPU")
        return FakeContext(self.room)


def make_device(name: str, **given: Any) -> Device:
    return Device(FakeCore(**given), Hints(device=name))


@pytest.mark.parametrize("device", ["CPU", "GPU", "GPU.1"])
@pytest.mark.parametrize("element_type", [ov.Type.u8, ov.Type.i8, ov.Type.f16, ov.Type.bf16, ov.Type.f32])
def test_the_host_writes_into_the_memory_that_the_device_reads(device: str, element_type: ov.Type) -> None:
    """A cache in memory that the GPU plugin copies gave a right prefill and garbage after it."""
    cache = allocate_cache(make_device(device), element_type, [5, 2, 4, 3])
    assert cache.cells.shape == (5, 2 * 4 * 3 * element_type.size)
    assert not cache.cells.any()
    cache.cells[3] = 7
    seen = cache.tensor.data.view(np.uint8).reshape(5, -1)
    assert (seen[3] == 7).all()
    assert not seen[[0, 1, 2, 4]].any()
    assert list(cache.tensor.shape) == [5, 2, 4, 3]
    assert cache.tensor.element_type == element_type


def test_only_a_gpu_allocates_the_memory_itself() -> None:
    allocate_cache(Device(None, Hints(device="CPU")), ov.Type.u8, [1, 1, 1, 1])
    with pytest.raises(MemoryError, match="-6"):
        allocate_cache(make_device("GPU", room=9), ov.Type.u8, [10, 1, 1, 1])


def test_the_default_limit_of_a_gpu_is_lower_because_its_memory_is_committed_at_once() -> None:
    assert default_cache_bytes("CPU", 64 * GIB) == 16 * GIB
    assert default_cache_bytes("GPU", 8 * GIB) == default_cache_bytes("GPU.0", 8 * GIB) == GIB
    assert default_cache_bytes("GPU", 64 * GIB) == MAX_GPU_BYTES == 2 * GIB


def test_a_cache_takes_memory_only_as_it_fills() -> None:
    """One block of each of 56 ports as a huge page were 112 MiB; NumPy asks for huge pages."""
    mib = 2**20
    cache = allocate_cache(Device(None, Hints(device="CPU")), ov.Type.u8, [64, mib])
    before = memory_kib("Anonymous")
    cache.cells[:, 0] = 1
    assert memory_kib("Anonymous") - before < 16 * 1024  # 64 small pages and what the process does


def memory_kib(kind: str) -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])
