"""Measures the machine's limits: memory bandwidth and throughput of matrix products."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.hints import Hints

READ_BYTES = 1024 * 2**20
"""Bytes that all threads together read: far more than any cache."""
MATRIX_SIDE = 2048
REPEATS = 5


@dataclass(frozen=True)
class Ceiling:
    """The machine's limits.

    Attributes:
        read: Bytes per second from memory with all cores.
        flops: Operations per second by precision. ``int8``: INT8 weights and activations quantized as in the decoder.
    """

    read: float
    flops: dict[str, float]


def measure_ceiling() -> Ceiling:
    """Measure bandwidth and throughput: the best of ``REPEATS`` runs each."""
    graphs = (("f32", _float_product), ("bf16", _float_product), ("int8", _int8_product))
    flops = {precision: _flops(precision, graph()) for precision, graph in graphs}
    return Ceiling(max(_read_bandwidth() for _ in range(REPEATS)), flops)


def _read_bandwidth() -> float:
    threads = len(os.sched_getaffinity(0))
    arrays = [np.ones(READ_BYTES // 8 // threads, np.uint64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(np.bitwise_or.reduce, arrays))
        return READ_BYTES / (time.perf_counter() - began)


def _float_product() -> ov.Model:
    inputs = [opset13.parameter([MATRIX_SIDE, MATRIX_SIDE], np.float32) for _ in range(2)]
    return ov.Model([opset13.matmul(inputs[0], inputs[1], False, True)], inputs)


def _int8_product() -> ov.Model:
    """Return a product with INT8 weights as in vlrun's models, for which the plugin quantizes the activations."""
    rng = np.random.default_rng(0)
    weights = opset13.constant(rng.integers(0, 256, (MATRIX_SIDE, MATRIX_SIDE), np.uint8))
    zero_point = opset13.constant(np.full((MATRIX_SIDE, 1), 128, np.uint8))
    scales = np.full((MATRIX_SIDE, 1), 0.01, np.float16)
    shifted = opset13.subtract(opset13.convert(weights, ov.Type.f16), opset13.convert(zero_point, ov.Type.f16))
    matrix = opset13.convert(opset13.multiply(shifted, opset13.constant(scales)), ov.Type.f32)
    left = opset13.parameter([MATRIX_SIDE, MATRIX_SIDE], np.float32)
    return ov.Model([opset13.matmul(left, matrix, False, True)], [left])


def _flops(precision: str, model: ov.Model) -> float:
    hints = Hints(decoder_precision="f32" if precision == "int8" else precision).decoder_config()
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()
    inputs = [np.ones((MATRIX_SIDE, MATRIX_SIDE), np.float32) for _ in model.inputs]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        request.infer(inputs, share_inputs=True)
        seconds.append(time.perf_counter() - began)
    return float(2 * MATRIX_SIDE**3 / min(seconds))
