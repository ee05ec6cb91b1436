"""Runs exported ONNX graphs, independently of the runtime, for the comparison with transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from vlrun.manifest import TextDimensions, VisionDimensions
from vlrun_export.families.qwen3_vl.check_prompt import CheckPrompt, FloatArray
from vlrun_export.stateful import cache_names

ONLY_ERRORS = 3
Inputs = Mapping[str, npt.NDArray[Any]]


def run_vision(model: Path, prompt: CheckPrompt, vision: VisionDimensions) -> FloatArray:
    """Return the features ``[1 + D, tokens, hidden]`` of the prompt's image."""
    return _infer(model, prompt.patch_positions(vision).encoder_inputs(prompt.patches), "features")


def run_decoder(model: Path, prompt: CheckPrompt, features: FloatArray, text: TextDimensions) -> FloatArray:
    """Return the prompt's logits ``[T, vocab_rows]``, given its image's ``features [1 + D, tokens, hidden]``."""
    length = len(prompt.ids)
    rows = np.arange(length)
    empty = np.zeros((1, text.kv_heads, length, text.head_dim), np.float32)
    inputs: Inputs = {
        "input_ids": prompt.ids,
        "position_ids": prompt.token_positions(),
        "visual_features": features,
        "visual_rows": rows[prompt.visual][:, None],
        "logit_rows": rows,
        "padded_rows": rows[None],
        "token_rows": rows,
        "sequence_tokens": np.array([length], np.int32),
        "last_tokens": np.array([length - 1], np.int32),
        "max_tokens": np.array(length, np.int32),
        **dict.fromkeys(cache_names(text.layers), empty),
    }
    return _infer(model, inputs, "logits")


def _infer(model: Path, inputs: Inputs, output: str) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    # The graph is as fused as it can be; what is left would store FP16 weights as FP32 too.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], dict(inputs))[0], np.float32)
