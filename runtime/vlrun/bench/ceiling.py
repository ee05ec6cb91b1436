"""What this machine could do at best: bytes read and operations done in a second. Knows NumPy, OpenVINO and clocks."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.hints import Hints

READ_BYTES = 1024 * 2**20
"""Read by all threads together: far more than any cache."""
MATRIX = 2048
REPEATS = 5


@dataclass(frozen=True)
class Ceiling:
    """``read``: bytes a second from memory, all cores together; ``flops``: operations a second by precision; ``int8``:
    of weights, with activations quantized as the decoder's are.
    """

    read: float
    flops: dict[str, float]


def measure() -> Ceiling:
    """Measure both, the best of some tries."""
    flops = {name: _multiply(name, graph()) for name, graph in (("f32", _plain), ("bf16", _plain), ("int8", _packed))}
    return Ceiling(max(_read() for _ in range(REPEATS)), flops)


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


def _plain() -> ov.Model:
    """A product of two matrices."""
    given = [opset13.parameter([MATRIX, MATRIX], np.float32) for _ in range(2)]
    return ov.Model([opset13.matmul(given[0], given[1], False, True)], given)


def _packed() -> ov.Model:
    """A matrix times INT8 weights, as they stand in our models: activations are quantized on the way."""
    rng = np.random.default_rng(0)
    weights = opset13.constant(rng.integers(0, 256, (MATRIX, MATRIX), np.uint8))
    middle, scales = opset13.constant(np.full((MATRIX, 1), 128, np.uint8)), np.full((MATRIX, 1), 0.01, np.float16)
    shifted = opset13.subtract(opset13.convert(weights, ov.Type.f16), opset13.convert(middle, ov.Type.f16))
    matrix = opset13.convert(opset13.multiply(shifted, opset13.constant(scales)), ov.Type.f32)
    given = opset13.parameter([MATRIX, MATRIX], np.float32)
    return ov.Model([opset13.matmul(given, matrix, False, True)], [given])


def _multiply(precision: str, model: ov.Model) -> float:
    hints = Hints(decoder_precision="f32" if precision == "int8" else precision).decoder_config()
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()
    inputs = [np.ones((MATRIX, MATRIX), np.float32) for _ in model.inputs]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        request.infer(inputs, share_inputs=True)
        seconds.append(time.perf_counter() - began)
    return float(2 * MATRIX**3 / min(seconds))
