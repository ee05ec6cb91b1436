"""Matrix products and embeddings with weights of a checkpoint, in the precision of the export.

INT8 and INT4 are ``MatMulNBits``, for which ONNX Runtime's own quantizer computes the blocks. Embedding and head share
their bytes: ``GatherBlockQuantized`` reads the same blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto

from vlrun.errors import CheckpointError
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import opened
from vlrun_export.onnx_format.graph_builder import MICROSOFT, GraphBuilder
from vlrun_export.progress import Report
from vlrun_export.quantize import Precision

BLOCK, LEAST_BLOCK = 128, 16
"""Weights of a row that share a scale: at most, and at least (a limit of ONNX Runtime)."""
INT8_ACTIVATIONS = 4
"""``accuracy_level`` of MatMulNBits: activations are quantized by block; any other level is many times slower."""
PART_ELEMENTS = 1 << 24
"""Elements that are converted at once."""


@dataclass
class Weights:
    """Adds the checkpoint's weights to a graph.

    Attributes:
        prefix: Start of the names in the checkpoint.
        report: Receives the fraction of the elements that are done.
    """

    builder: GraphBuilder
    checkpoint: Checkpoint
    precision: Precision
    prefix: str
    report: Report
    _done: int = 0

    def __post_init__(self) -> None:
        stored = self.checkpoint.tensors.items()
        self._total = max(1, sum(math.prod(one.shape) for name, one in stored if name.startswith(self.prefix)))

    def vector(self, name: str) -> str:
        """Add a norm's weight or a bias as float32."""
        return self.builder.constant(name, self._read(name).to(torch.float32).numpy())

    def linear(self, hidden: str, names: Sequence[str], *, as_int8: bool = False) -> str:
        """Multiply rows ``[T, K]`` by the weights of linear layers; their results are joined ``[T, N1 + N2 ...]``.

        Args:
            hidden: The rows.
            names: Names of the layers.
            as_int8: Whether INT8 replaces INT4.
        """
        builder, key = self.builder, "+".join(names)
        shapes = [self._shape(f"{name}.weight") for name in names]
        rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
        bias = self._bias(names, key)
        matrix = self._matrix(key, names, rows, columns, as_int8)
        bits = self._bits(as_int8)
        if bits is None:
            return builder.node("Gemm", [hidden, matrix, *bias], transB=1)
        inputs = [hidden, matrix, f"{key}.scales", *(["", "", *bias] if bias else [])]
        return builder.node(
            "MatMulNBits",
            inputs,
            domain=MICROSOFT,
            N=rows,
            K=columns,
            bits=bits,
            block_size=_block(columns),
            accuracy_level=INT8_ACTIVATIONS,
        )

    def embedding(self, ids: str, name: str, *, tied: bool) -> str:
        """Look up rows of an embedding, INT8 for INT4 weights. ``tied``: ``linear`` uses it too, as the head."""
        builder = self.builder
        rows, columns = self._shape(f"{name}.weight")
        matrix = self._matrix(name, [name], rows, columns, as_int8=True)
        if self._bits(as_int8=True) is None:
            if self.precision == "fp16":
                return builder.node("Cast", [builder.node("Gather", [f"{name}.weight", ids])], to=TensorProto.FLOAT)
            return builder.node("Gather", [matrix, ids])
        block = _block(columns)
        if columns % block:
            raise CheckpointError(
                f"the hidden size of '{self.checkpoint.folder}' is {columns}, but INT8 weights in ONNX need a multiple "
                f"of {LEAST_BLOCK}: use --weights fp16 or fp32"
            )
        table = builder.reshaped(f"{name}.rows", [rows, columns], matrix, keep=tied)
        return builder.node(
            "GatherBlockQuantized",
            [table, ids, f"{name}.scales"],
            domain=MICROSOFT,
            bits=8,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )

    def table(self, name: str) -> str:
        """Add a matrix that is read row by row, as float32."""
        return self.builder.constant(name, self._read(name).to(torch.float32).numpy())

    def _matrix(self, key: str, names: Sequence[str], rows: int, columns: int, as_int8: bool) -> str:
        """Store a matrix ``[N, K]`` once, or its blocks ``[N, K / block, bytes]`` and scales. Return its name."""
        builder, bits, name = self.builder, self._bits(as_int8), f"{key}.weight"
        if builder.is_stored(name):
            return f"{name}.f32" if self.precision == "fp16" and bits is None else name
        if bits is None:
            kind = np.float16 if self.precision == "fp16" else np.float32
            builder.stored(name, kind, [rows, columns], (part.numpy().astype(kind) for part in self._parts(names)))
            if kind is np.float16:
                return builder.node("Cast", [name], [f"{name}.f32"], to=TensorProto.FLOAT)
            return name
        block, scales = _block(columns), []

        def blocks() -> Iterator[npt.NDArray[np.uint8]]:
            for part in self._parts(names):
                quantized, scale = _quantize(part, bits, block)
                scales.append(scale)
                yield quantized

        count = -(-columns // block)
        builder.stored(name, np.uint8, [rows, count, block * bits // 8], blocks())
        builder.stored(f"{key}.scales", np.float32, [rows, count], scales)
        return name

    def _bits(self, as_int8: bool) -> Literal[4, 8] | None:
        if self.precision == "int4":
            return 8 if as_int8 else 4
        return 8 if self.precision == "int8" else None

    def _bias(self, names: Sequence[str], key: str) -> list[str]:
        stored = [f"{name}.bias" for name in names if f"{self.prefix}{name}.bias" in self.checkpoint.tensors]
        if not stored:
            return []
        joined = torch.cat([self._read(name).to(torch.float32) for name in stored])
        return [self.builder.constant(f"{key}.bias", joined.numpy())]

    def _parts(self, names: Sequence[str]) -> Iterator[torch.Tensor]:
        """Yield rows of matrices as float32, some at a time."""
        for name in names:
            matrix = self._read(f"{name}.weight").flatten(1)
            step = max(1, PART_ELEMENTS // matrix.shape[1])
            for start in range(0, len(matrix), step):
                part = matrix[start : start + step].to(torch.float32)
                yield part
                self._done += part.numel()
                self.report(min(1.0, self._done / self._total))

    def _read(self, name: str) -> torch.Tensor:
        full = self._full(name)
        with opened(self.checkpoint.files, self.checkpoint.tensors[full].file, "pt") as file:
            tensor: torch.Tensor = file.get_tensor(full)
            return tensor

    def _shape(self, name: str) -> tuple[int, int]:
        rows, *others = self.checkpoint.tensors[self._full(name)].shape
        return rows, int(np.prod(others))

    def _full(self, name: str) -> str:
        return name if name in self.checkpoint.tensors else self.prefix + name


def _block(columns: int) -> int:
    """Return the largest block that divides the columns, if there is one."""
    block = BLOCK
    while block > LEAST_BLOCK and columns % block:
        block //= 2
    return block


def _quantize(
    rows: torch.Tensor, bits: Literal[4, 8], block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Quantize rows symmetrically with ONNX Runtime's quantizer."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        DefaultWeightOnlyQuantizer,
    )

    config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, bits=bits)
    blocks, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(rows.T.contiguous().numpy())
    return blocks, scales
