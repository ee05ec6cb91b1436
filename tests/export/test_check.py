"""The self-check fails wrong exports and passes quantized ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from vlrun import manifest
from vlrun.errors import CheckFailed
from vlrun.manifest import CheckResult, Manifest
from vlrun.models.qwen3_vl.positions import token_positions
from vlrun_export import check
from vlrun_export.check import check_folder, require_passed
from vlrun_export.checkpoint import open_checkpoint
from vlrun_export.export import export_checkpoint
from vlrun_export.families.qwen3_vl import check_prompt, reference, vision_graph


class SwappedLevels(vision_graph.VisionGraph):
    """A vision graph with DeepStack levels in the wrong order."""

    def __init__(self, vision: torch.nn.Module) -> None:
        super().__init__(vision)
        self.levels = {block: len(self.levels) - 1 - level for block, level in self.levels.items()}


def swapped_levels(output: tuple[torch.Tensor, Sequence[torch.Tensor]]) -> torch.Tensor:
    """Return the features of a reference with DeepStack levels in the wrong order."""
    return torch.stack([output[0], *output[1][::-1]])


class ChunkedRotary(Qwen3VLTextRotaryEmbedding):
    """M-RoPE in three chunks, as in Qwen2-VL, instead of interleaved."""

    def apply_interleaved_mrope(self, freqs: torch.Tensor, mrope_section: list[int]) -> torch.Tensor:
        """Return the frequencies of time, then height, then width."""
        return torch.cat([part[axis] for axis, part in enumerate(freqs.split(mrope_section, dim=-1))], dim=-1)


def test_int8_passes_and_the_manifest_records_every_result(int8_export: tuple[Path, Manifest]) -> None:
    """Guards against limits that are too strict."""
    folder, exported = int8_export
    assert exported.check
    assert all(result.passed for result in exported.check)
    assert manifest.read(folder).check == exported.check


def test_without_the_check_the_manifest_has_no_results(small_model: Path) -> None:
    assert manifest.read(small_model).check == ()


def test_a_wrong_graph_fails_and_leaves_nothing(
    tied_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_graph, "VisionGraph", SwappedLevels)
    messages: list[str] = []
    with pytest.raises(CheckFailed, match="deviates from transformers"):
        export_checkpoint(
            tied_checkpoint, tmp_path / "out", weights="fp32", vision="fp32",
            progress=lambda step, fraction=None: messages.append(step),
        )  # fmt: skip
    assert "too large" in messages[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [("_stacked", swapped_levels), ("Qwen3VLTextRotaryEmbedding", ChunkedRotary)],
    ids=["DeepStack rows swapped", "wrong rotary order"],
)
def test_a_graph_unlike_the_reference_fails_even_at_int8(
    int8_export: tuple[Path, Manifest],
    tied_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: Callable[..., object],
) -> None:
    """Guards against limits that are too loose. The fault is in the reference, which needs no export."""
    monkeypatch.setattr(reference, name, fault)
    results = check_folder(open_checkpoint(tied_checkpoint), *int8_export)
    with pytest.raises(CheckFailed, match="deviates from transformers"):
        require_passed(results)


@pytest.mark.parametrize("order", [[0, 2, 1], [0, 1, 1]], ids=["height and width swapped", "width lost"])
def test_wrong_positions_fail(
    int8_export: tuple[Path, Manifest], tied_checkpoint: Path, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_prompt, "token_positions", lambda length, images: token_positions(length, images)[order])
    results = check_folder(open_checkpoint(tied_checkpoint), *int8_export)
    with pytest.raises(CheckFailed):
        require_passed(results)


def test_nan_logits_fail() -> None:
    good = np.ones((2, 3), np.float32)
    broken = good * np.nan
    results = check.compare_logits(broken, good, check.LIMITS["int8"])
    assert not any(result.passed for result in results[:2])


def test_the_table_has_a_verdict_per_row_and_fits_80_columns() -> None:
    """The lines are indented by 10 columns. Guards a table of numbers that does not say what is good."""
    names = ["vision embeddings, error / scale", "DeepStack row 12, error / scale", "logits, mean KL divergence"]
    small, large, broken = (
        CheckResult(name, value, 0.0001, value <= 0.0001)
        for name, value in zip(names, (0.000012, 1e30, math.nan), strict=True)
    )
    lines = check.table((small, large, broken, CheckResult(check.AGREEMENT, 0.89, 0.8, True)))
    lines += check.table((CheckResult(check.AGREEMENT, 0.1, 0.8, False),))[1:]
    assert [re.split(r"  +", line)[-1] for line in lines] == [
        "verdict", "ok", "too large", "not a number", "ok", "too small",
    ]  # fmt: skip
    assert ["<= 0.0001" in line for line in lines[1:4]] == [True] * 3
    assert ">= 0.8" in lines[4]
    assert max(map(len, lines)) <= 70
