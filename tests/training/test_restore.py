"""A model restored from the embedded one or from a checkpoint has its very weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import openvino as ov
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.checkpoint import save_checkpoint
from training.restore import load_checkpoint
from vlrun import manifest
from vlrun.embedded import FOLDER


def test_restored_weights_round_to_the_embedded_ones() -> None:
    """Guards against a lost run: the FP32 weights of the embedded model are kept nowhere else.

    Zero and the extreme values of a row are among its INT8 levels, so compressing it again finds the same levels.
    """
    model, tokenizer = load_checkpoint(FOLDER)
    assert tokenizer.get_vocab_size() == model.config.text_config.vocab_size
    restored = model.state_dict()
    graph = ov.Core().read_model(FOLDER / manifest.DECODER_XML)
    constants = {node.get_friendly_name(): node.data for node in graph.get_ops() if node.get_type_name() == "Constant"}
    name = "layers.3.mlp.gate_proj.weight"
    matrix = restored[f"model.language_model.{name}"].numpy()
    levels, scale = constants[f"self.text.{name}"], constants[f"self.text.{name}/scale"].astype(np.float32)
    offset = constants[f"self.text.{name}/zero_point"].astype(np.float32)
    assert (np.round(matrix / scale + offset) == levels).all()
    assert np.isfinite([float(value.abs().max()) for value in restored.values()]).all()


def test_a_checkpoint_is_loaded_as_it_was_saved(
    model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_checkpoint(model, tokenizer, tmp_path / "checkpoint")
    loaded, its_tokenizer = load_checkpoint(tmp_path / "checkpoint")
    assert its_tokenizer.to_str() == tokenizer.to_str()
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
