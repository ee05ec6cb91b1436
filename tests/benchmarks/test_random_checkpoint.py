"""The random checkpoint has the published shapes."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from benchmarks import random_checkpoint
from tests.small_models import build_tokenizer


def test_published_number_of_parameters() -> None:
    """Guards the dimensions written down by hand: Qwen3-VL-2B has 2,127,532,032 parameters."""
    config = random_checkpoint.configuration(build_tokenizer(), layers=28, depth=24, tied=True)
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_127_532_032


def test_shards_hold_every_tensor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards memory and completeness: no shard beyond its limit, unless one tensor alone is."""
    monkeypatch.setattr(random_checkpoint, "SHARD_PARAMETERS", 100)
    shapes = {name: torch.Size([size]) for name, size in zip("abcdef", (60, 40, 1, 150, 90, 20), strict=True)}
    assert list(random_checkpoint.split_shards(shapes)) == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
