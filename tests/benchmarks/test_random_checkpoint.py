"""The random checkpoint has the shapes of Qwen3-VL-2B."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from benchmarks import random_checkpoint
from tests.small_models import build_tokenizer


def test_the_number_of_parameters_is_the_published_one() -> None:
    """Guards the dimensions, which are written by hand."""
    config = random_checkpoint.configuration(build_tokenizer(), layers=28, depth=24, tied=True)
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_127_532_032


def test_shards_keep_their_limit_and_hold_every_tensor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor larger than the limit gets its own shard."""
    monkeypatch.setattr(random_checkpoint, "SHARD_PARAMETERS", 100)
    shapes = {name: torch.Size([size]) for name, size in zip("abcdef", (60, 40, 1, 150, 90, 20), strict=True)}
    assert list(random_checkpoint.split_shards(shapes)) == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
