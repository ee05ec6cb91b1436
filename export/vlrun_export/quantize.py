"""Precision of the stored weights, and its description in the manifest.

INT8 and INT4 use NNCF's data-free weight compression. fp16 and fp32 are casts while the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from openvino import opset13

from vlrun_export.progress import Report

T = TypeVar("T")
Precision = Literal["int4", "int8", "fp16", "fp32"]

GROUP = 128
"""Input channels that share an INT4 scale."""

RECIPE = {
    "int4": f"NNCF int4_sym weights in groups of {GROUP}, data-free AWQ; embedding and head as int8",
    "int8": "NNCF int8_asym weights per output channel, data-free",
    "fp16": "weight matrices cast to float16",
    "fp32": "weight matrices cast to float32",
}
FLOATS = (ov.Type.bf16, ov.Type.f16, ov.Type.f32)
"""Types of weights in checkpoints."""
BLOCK_ELEMENTS = 1 << 24
LARGE_ELEMENTS = 1 << 27
"""Larger matrices (embedding and head) are compressed in blocks of rows."""


def matrix_dtype(precision: Precision) -> torch.dtype | None:
    """Return the dtype to load matrices in; None keeps the checkpoint's, mapped without a copy."""
    return {"int4": None, "int8": None, "fp16": torch.float16, "fp32": torch.float32}[precision]


def compress(
    model: ov.Model, precision: Literal["int4", "int8"], vocab_rows: int, report: Report = lambda fraction: None
) -> None:
    """Compress the weight matrices of a traced model in place.

    INT8 is asymmetric, with one scale per output channel. INT4 is symmetric, with one scale per group of input
    channels, except for matrices of ``vocab_rows`` rows (embedding and head), which become INT8.
    """
    import nncf

    matrices = [node for node in model.get_ops() if node.get_type_name() == "Constant" and _rows(node) is not None]
    work = _Work(sum(map(_elements, matrices)), report)
    for node in matrices:
        if _elements(node) > LARGE_ELEMENTS or (precision == "int4" and _rows(node) == vocab_rows):
            _replace(node, _compress_by_rows(node, work))
    with _nncf_tracked_by(work):
        if precision == "int8":
            nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        else:
            narrower = nncf.GroupSizeFallbackMode.ADJUST  # for widths that are not a multiple of the group
            nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_SYM,
                group_size=GROUP,
                all_layers=True,
                awq=True,
                advanced_parameters=nncf.AdvancedCompressionParameters(group_size_fallback_mode=narrower),
            )
    model.validate_nodes_and_infer_types()


class _Work:
    """Counts the elements that are compressed, and reports which fraction that is."""

    def __init__(self, elements: int, report: Report) -> None:
        self._elements = max(1, elements)
        self._report = report
        self._done = 0

    def add(self, elements: int) -> None:
        """Count elements as done."""
        self._done += elements
        self._report(min(1.0, self._done / self._elements))


@contextmanager
def _nncf_tracked_by(work: _Work) -> Iterator[None]:
    """Let NNCF report its progress to ``work`` instead of drawing a bar, for which it offers no other way."""
    from nncf.quantization.algorithms.weight_compression import algorithm

    def track(items: Sequence[T], description: str, weights: Iterable[int]) -> Iterator[T]:  # noqa: ARG001
        for item, elements in zip(items, weights, strict=True):
            yield item
            work.add(elements)

    bar = algorithm.track
    algorithm.track = track
    try:
        yield
    finally:
        algorithm.track = bar


def _rows(constant: ov.Node) -> int | None:
    """Return the rows of a matrix of floats; None for any other constant."""
    shape = list(constant.get_output_shape(0))
    return shape[0] if constant.get_element_type() in FLOATS and len(shape) == 2 else None


def _elements(constant: ov.Node) -> int:
    return int(np.prod(constant.get_output_shape(0)))


def _compress_by_rows(constant: ov.Node, work: _Work) -> ov.Node:
    """Compress to the same result as NNCF with the whole matrix, without its two float32 copies."""
    from nncf import CompressWeightsMode
    from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
    from nncf.quantization.algorithms.weight_compression.weight_lowering import compress_weight
    from nncf.tensor import Tensor

    config = WeightCompressionConfig(CompressWeightsMode.INT8_ASYM)
    kind, bits = constant.get_element_type(), constant.data  # for bfloat16, which NumPy lacks, only the bytes are right
    values = np.empty(bits.shape, np.uint8)
    zero_points = np.empty((len(bits), 1), np.uint8)
    scales = np.empty((len(bits), 1), np.float16)
    step = max(1, BLOCK_ELEMENTS // bits.shape[1])
    for start in range(0, len(bits), step):
        rows = slice(start, start + step)
        block = Tensor(ov.Tensor(bits[rows], list(bits[rows].shape), kind))
        compressed = compress_weight(block, reduction_axes=(1,), config=config)
        # NNCF returns views of memory that it reuses for the next block.
        values[rows], zero_points[rows] = compressed.tensor.data, compressed.zero_point.data
        scales[rows] = compressed.scale.data
        work.add(bits[rows].size)
    return _decompression(values, zero_points, scales, constant.get_friendly_name())


def _decompression(
    values: npt.NDArray[np.uint8], zero_points: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16], name: str
) -> ov.Node:
    """Build ``(values - zero_points) * scales`` as float32, in NNCF's form, which plugins recognize."""
    matrix = opset13.constant(values, name=name)
    offset = opset13.constant(zero_points, name=f"{name}/zero_point")
    scale = opset13.constant(scales, name=f"{name}/scale")
    shifted = opset13.subtract(opset13.convert(matrix, ov.Type.f16), opset13.convert(offset, ov.Type.f16))
    return opset13.convert(opset13.multiply(shifted, scale), ov.Type.f32)


def _replace(constant: ov.Node, replacement: ov.Node) -> None:
    """Replace a constant and its conversion to float32, which float32 constants do not have."""
    for user in constant.output(0).get_target_inputs():
        converts = user.get_node().get_type_name() == "Convert"
        for consumer in user.get_node().output(0).get_target_inputs() if converts else [user]:
            consumer.replace_source_output(replacement.output(0))
