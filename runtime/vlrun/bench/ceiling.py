"""What this machine could do at best: bytes read and operations done in a second. Knows NumPy, OpenVINO and clocks."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13

READ_BYTES = 1024 * 2**20
"""Read by all threads together: far more than any cache."""
MATRIX = 2048
REPEATS = 5


@dataclass(frozen=True)
class Ceiling:
    """``read``: bytes a second from memory, all cores together; ``flops``: operations a second by precision."""

    read: float
    flops: dict[str, float]


def measure() -> Ceiling:
    """Measure both, the best of some tries."""
    precisions = ["f32", "bf16"]
    return Ceiling(max(_read() for _ in range(REPEATS)), {name: _multiply(name) for name in precisions})


def _read() -> float:
    threads = len(os.sched_getaffinity(0))
    arrays = [np.ones(READ_BYTES // 8 // threads, np.uint64) for _ in range(threads)]
    workers = [threading.Thread(target=np.bitwise_or.reduce, args=(array,)) for array in arrays]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return READ_BYTES / (time.perf_counter() - began)


def _multiply(precision: str) -> float:
    given = [opset13.parameter([MATRIX, MATRIX], np.float32) for _ in range(2)]
    model = ov.Model([opset13.matmul(given[0], given[1], False, True)], given)
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision}).create_infer_request()
    inputs = [np.ones((MATRIX, MATRIX), np.float32) for _ in range(2)]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        request.infer(inputs, share_inputs=True)
        seconds.append(time.perf_counter() - began)
    return float(2 * MATRIX**3 / min(seconds))
