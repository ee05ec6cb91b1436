"""Which questions an evaluation asks."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np

import vlrun
from tests.training.scenes import scene
from training.evaluate import balanced, clip_items, score_item
from training.scene_questions import qa_pairs


def test_rare_tasks_are_asked_as_often_as_frequent_ones() -> None:
    """The card's table had 6 to 60 questions in many rows, and 360 in others."""
    asked_so_far: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        drawn = scene("shelf", seed)
        chosen = balanced(((qa,) for qa in qa_pairs(drawn, rng)), 12, asked_so_far)
        assert len({turns[0].question for turns in chosen}) == len(chosen)
        plain.update(qa.task for qa in islice(qa_pairs(drawn, rng), 12))
    tasks: Counter[str] = Counter()
    for kind, number in asked_so_far.items():
        tasks[kind.split()[0]] += number
    assert tasks.keys() == plain.keys()
    assert min(tasks.values()) > max(tasks.values()) / 3 > 0
    assert min(tasks.values()) > min(plain.values())


def test_held_out_clips_are_asked_through_the_runtime() -> None:
    """As clips that users open; the answer may be wrong."""
    vlm = vlrun.load()
    (first, *_) = items = list(clip_items(0, Counter()))
    assert len({item.turns[0].question for item in items}) == len(items) > 1
    (scored,) = score_item(vlm, first)
    assert (scored.task, scored.truth) == (first.turns[0].task, first.turns[0].answer)
