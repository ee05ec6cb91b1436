"""Runs a written model folder on the CPU, without the runtime: what the check compares with transformers.

The decoder runs in its stateful form, in one pass. Float32 and no dynamic quantization, so that only graphs and
stored weights can differ from the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from vlrun.manifest import VisionDimensions
from vlrun.models.qwen3_vl.positions import patch_positions, token_positions
from vlrun_export.probe import Probe

FloatArray = npt.NDArray[np.float32]
Inputs = Mapping[str, npt.NDArray[Any]]
PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


def run_vision(model: Path, probe: Probe, vision: VisionDimensions) -> FloatArray:
    """Features ``[1 + D, tokens, hidden]`` of the probe's image."""
    where = patch_positions(probe.grid, vision.position_side, vision.hidden // vision.heads, vision.rope_theta)
    inputs: Inputs = {
        "patches": probe.patches,
        "position_indices": where.indices,
        "position_weights": where.weights,
        "rotary_cos": where.cos,
        "rotary_sin": where.sin,
    }
    return _infer(model, inputs, "features")


def run_decoder(model: Path, probe: Probe, features: FloatArray) -> FloatArray:
    """Logits ``[T, vocab_rows]`` of the probe, with its image's ``features`` ``[1 + D, tokens, hidden]``."""
    length = len(probe.ids)
    visual_features = np.zeros((len(features), 1, length, features.shape[2]), np.float32)
    visual_features[:, 0, probe.visual] = features
    visual_mask = np.zeros((1, length, 1), np.float32)
    visual_mask[:, probe.visual] = 1
    inputs: Inputs = {
        "input_ids": probe.ids[None],
        "position_ids": token_positions(length, [(probe.start, probe.grid)])[:, None],
        "attention_mask": np.ones((1, length), np.int64),
        "visual_features": visual_features,
        "visual_mask": visual_mask,
        "logit_rows": np.arange(length),
        "beam_idx": np.zeros(1, np.int32),
    }
    return _infer(model, inputs, "logits")


def _infer(model: Path, inputs: Inputs, output: str) -> FloatArray:
    compiled = ov.Core().compile_model(model, "CPU", PROPERTIES)
    request = compiled.create_infer_request()
    return np.array(request.infer(inputs)[output], np.float32)
