"""The tree mask and the learning rate."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from tokenizers import Tokenizer

from training.auxiliary import AuxiliaryHeads
from training.batches import PAD, PREFIX, TEXT_ONLY, Packer, make_batch
from training.network import BatchedVLM, vision_positions
from training.training_step import (
    HEADS_FIRST_STEPS,
    WARM_UP_STEPS,
    Schedule,
    TrainingState,
    auxiliary_loss,
    forward,
    make_optimizers,
    tree_mask,
)

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


def test_questions_see_only_the_prefix_and_themselves() -> None:
    """Text-only questions do not see the prefix."""
    groups = np.array([[PREFIX, PREFIX, 1, 1, 2, TEXT_ONLY, PAD]])
    mask = tree_mask(groups)[0, 0]
    visible = [np.flatnonzero(row.numpy()).tolist() for row in mask]
    assert visible == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [5], [0, 1, 6]]


def test_learning_rate_warms_up_stays_flat_and_decays() -> None:
    def factor(step: int) -> float:
        return Schedule(10_000, decay=0.5).factor(cast(TrainingState, SimpleNamespace(step=step)))

    assert factor(0) == pytest.approx(1 / WARM_UP_STEPS)
    assert factor(WARM_UP_STEPS) == factor(5000) == 1
    assert factor(7500) == pytest.approx(0.5)
    assert factor(10_000) == 0


def test_learning_rate_follows_elapsed_time() -> None:
    """A run that must end at a time may not depend on the speed of the machine."""
    schedule = Schedule(10_000, seconds=600, decay=0.5, peak=0.3)
    state = cast(TrainingState, SimpleNamespace(step=5, seconds=450))
    assert schedule.factor(state) == pytest.approx(0.3 * (5 + 1) / WARM_UP_STEPS)
    state.step = 1000
    assert schedule.factor(state) == pytest.approx(0.3 * 0.5)
    state.seconds = 600
    assert schedule.left(state) == schedule.factor(state) == 0


@pytest.mark.parametrize("step", [0, HEADS_FIRST_STEPS])
def test_new_heads_learn_first_and_then_the_model_too(
    model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, step: int
) -> None:
    """The loss on visual tokens reaches both frames of the patch embedding only when its heads are no longer new."""
    batch = make_batch(np.random.default_rng(5), Packer(tokenizer), [], 3, "clip", text_first=False)
    batched = BatchedVLM(deepcopy(model))
    state = TrainingState(batched, AuxiliaryHeads(256), [], step=step)
    passed = forward(batched, batch, vision_positions(batch.grid))
    auxiliary_loss(state, batch, passed._replace(inputs=passed.inputs.detach())).backward()
    assert all(parameter.grad is not None for parameter in state.auxiliary_heads.parameters())
    gradient = batched.model.model.visual.patch_embed.proj.weight.grad
    assert (gradient is not None) == (step > 0)
    assert gradient is None or (gradient[:, :, 0] != gradient[:, :, 1]).any()


def test_learning_rates_of_the_vision_encoder_and_of_the_heads(model: Qwen3VLForConditionalGeneration) -> None:
    batched, heads = BatchedVLM(deepcopy(model)), AuxiliaryHeads(256)
    groups = [g for o in make_optimizers(batched, heads, vision_rate=0.5, heads_rate=4) for g in o.param_groups]
    rates = {id(parameter): group["rate"] for group in groups for parameter in group["params"]}
    assert {rates.pop(id(parameter)) for parameter in heads.parameters()} == {4}
    inner = batched.model.model
    assert {rates[id(parameter)] for parameter in inner.visual.parameters()} == {0.5}
    assert {rates[id(parameter)] for parameter in inner.language_model.parameters()} == {1}
    assert len(rates) == len(list(batched.parameters()))
