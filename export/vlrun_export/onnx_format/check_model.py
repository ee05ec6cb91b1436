"""Runs exported ONNX graphs, independently of the runtime, for the comparison with transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from vlrun.manifest import TextDimensions, VisionDimensions
from vlrun.models.qwen3_vl.positions import patch_positions, token_positions
from vlrun_export.families.qwen3_vl.check_prompt import CheckPrompt, FloatArray

Inputs = Mapping[str, npt.NDArray[Any]]


def run_vision(model: Path, prompt: CheckPrompt, vision: VisionDimensions) -> FloatArray:
    """Return the features ``[1 + D, tokens, hidden]`` of the prompt's image."""
    positions = patch_positions(prompt.grid, vision.position_side, vision.hidden // vision.heads, vision.rope_theta)
    inputs: Inputs = {
        "patches": prompt.patches,
        "position_indices": positions.indices,
        "position_weights": positions.weights,
        "rotary_cos": positions.cos,
        "rotary_sin": positions.sin,
    }
    return _infer(model, inputs, "features")


def run_decoder(model: Path, prompt: CheckPrompt, features: FloatArray, text: TextDimensions) -> FloatArray:
    """Return the prompt's logits ``[T, vocab_rows]``, given its image's ``features [1 + D, tokens, hidden]``."""
    length = len(prompt.ids)
    rows = np.arange(length)
    empty = np.zeros((1, text.kv_heads, length, text.head_dim), np.float32)
    caches = [f"past_key_values.{layer}.{part}" for layer in range(text.layers) for part in ("key", "value")]
    inputs: Inputs = {
        "input_ids": prompt.ids,
        "position_ids": token_positions(length, [(prompt.start, prompt.grid)]),
        "visual_features": features,
        "visual_rows": rows[prompt.visual][:, None],
        "logit_rows": rows,
        "padded_rows": rows[None],
        "token_rows": rows,
        "sequence_tokens": np.array([length], np.int32),
        "last_tokens": np.array([length - 1], np.int32),
        "max_tokens": np.array(length, np.int32),
        **dict.fromkeys(caches, empty),
    }
    return _infer(model, inputs, "logits")


def _infer(model: Path, inputs: Inputs, output: str) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], dict(inputs))[0], np.float32)
