"""Runs the exported models on the CPU, independently of the runtime, for the comparison with transformers.

The stateful decoder runs in one pass. Inference is float32 without dynamic quantization, so that only the graphs and
the stored weights can differ from the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from vlrun.manifest import VisionDimensions
from vlrun_export.families.qwen3_vl.check_prompt import CheckPrompt, FloatArray

Inputs = Mapping[str, npt.NDArray[Any]]
PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


def run_vision(model: Path, prompt: CheckPrompt, vision: VisionDimensions) -> FloatArray:
    """Return the features ``[1 + D, tokens, hidden]`` of the prompt's image."""
    inputs = prompt.patch_positions(vision).encoder_inputs(prompt.patches)
    (features,) = infer(model, inputs, "features")
    return features


def run_decoder(model: Path, prompt: CheckPrompt, features: FloatArray) -> FloatArray:
    """Return the prompt's logits ``[T, vocab_rows]``, given its image's ``features [1 + D, tokens, hidden]``."""
    length = len(prompt.ids)
    visual_features = np.zeros((len(features), 1, length, features.shape[2]), np.float32)
    visual_features[:, 0, prompt.visual] = features
    visual_mask = np.zeros((1, length, 1), np.float32)
    visual_mask[:, prompt.visual] = 1
    inputs: Inputs = {
        "input_ids": prompt.ids[None],
        "position_ids": prompt.token_positions()[:, None],
        "attention_mask": np.ones((1, length), np.int64),
        "visual_features": visual_features,
        "visual_mask": visual_mask,
        "logit_rows": np.arange(length),
        "beam_idx": np.zeros(1, np.int32),
    }
    (logits,) = infer(model, inputs, "logits")
    return logits


def infer(model: Path, inputs: Inputs, *outputs: str) -> list[FloatArray]:
    """Return the named outputs of a model for some inputs."""
    compiled = ov.Core().compile_model(model, "CPU", PROPERTIES)
    request = compiled.create_infer_request()
    results = request.infer(inputs)
    return [np.array(results[name], np.float32) for name in outputs]
