"""Runs an export in optimum-intel's layout on the CPU as openvino-genai does, for the comparison with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlrun.layout import OPTIMUM
from vlrun.manifest import VisionDimensions
from vlrun_export.exported_model import infer
from vlrun_export.families.qwen3_vl.check_prompt import CheckPrompt, FloatArray

_MERGER, _PATCHES, _POSITIONS = OPTIMUM.vision
_LANGUAGE, _EMBEDDINGS = OPTIMUM.decoder


def run_vision(folder: Path, prompt: CheckPrompt, vision: VisionDimensions) -> FloatArray:
    """Return the features ``[1 + D, tokens, hidden]`` of the prompt's image."""
    head_dim = vision.hidden // vision.heads
    positions = prompt.patch_positions(vision)
    (embedded,) = infer(_graph(folder, _PATCHES), {"hidden_states": prompt.patches}, "last_hidden_state")
    (corners,) = infer(_graph(folder, _POSITIONS), {"input": positions.indices}, "last_hidden_state")
    count = prompt.grid.patches
    inputs = {
        "hidden_states": embedded + (corners * positions.weights[:, :, None]).sum(axis=0),
        "attention_mask": np.zeros((1, count, count), np.float32),
        "rotary_pos_emb": np.arctan2(positions.sin, positions.cos)[:, : head_dim // 2],
    }
    last, deepstack = infer(_graph(folder, _MERGER), inputs, "last_hidden_state", "deepstack_feature_lists")
    return np.concatenate([last[None], deepstack])


def run_decoder(folder: Path, prompt: CheckPrompt, features: FloatArray) -> FloatArray:
    """Return the prompt's logits ``[T, vocab_rows]``, given its image's ``features [1 + D, tokens, hidden]``."""
    length = len(prompt.ids)
    (embedded,) = infer(_graph(folder, _EMBEDDINGS), {"input": prompt.ids[None]}, "inputs_embeds")
    embedded[0, prompt.visual] = features[0]
    visual = np.zeros((1, length), np.bool_)
    visual[:, prompt.visual] = True
    inputs: dict[str, npt.NDArray[Any]] = {
        "inputs_embeds": embedded,
        "position_ids": prompt.token_positions()[:, None],
        "attention_mask": np.ones((1, length), np.int64),
        "visual_pos_masks": visual,
        "deepstack_visual_embeds": features[1:],
        "beam_idx": np.zeros(1, np.int32),
    }
    (logits,) = infer(_graph(folder, _LANGUAGE), inputs, "logits")
    return logits[0]


def _graph(folder: Path, name: str) -> Path:
    return folder / OPTIMUM.graph_file(name)
