"""Precision of the stored weights: how each choice is reached, and in which words the manifest records it.

INT8 is NNCF's data-free weight compression; fp16 and fp32 are casts made while the weights are loaded. Knows no checkpoint
and no graph in particular.
"""

from __future__ import annotations

from typing import Literal, get_args

import openvino as ov
import torch

Precision = Literal["int8", "fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

RECIPE = {
    "int8": "NNCF int8_asym weights per output channel, data-free",
    "fp16": "weight matrices cast to float16",
    "fp32": "weight matrices cast to float32",
}


def matrix_dtype(precision: Precision) -> torch.dtype | None:
    """In which dtype weight matrices must be loaded; None: as they lie in the checkpoint, mapped and not copied."""
    return {"int8": None, "fp16": torch.float16, "fp32": torch.float32}[precision]


def compress(model: ov.Model, precision: Precision) -> ov.Model:
    """Compress the weight matrices of a traced model to INT8, or return it as it is for fp16 and fp32."""
    if precision != "int8":
        return model
    import nncf

    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
