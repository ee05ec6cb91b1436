"""The tree mask and the learning rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from training.batches import PAD, PREFIX, TEXT_ONLY
from training.training_step import WARM_UP_STEPS, Schedule, TrainingState, tree_mask


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
