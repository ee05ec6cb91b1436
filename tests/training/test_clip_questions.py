"""Answers about clips follow from what the frames show."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np

from tests.training.scenes import clip
from training.clip_questions import CLIP_TEMPLATES, NAMES, NOTHING, TIMES, ZH_NAMES, clip_questions
from training.clips import CLIP_KINDS, Clip
from training.qa import QAPair
from training.scenes import Item
from training.templates import ZH

WORDS = {kind: (NAMES.get(kind, kind), ZH_NAMES.get(kind) or ZH[kind]) for kind in CLIP_KINDS}


def looks(drawn: Clip, kind: str) -> list[Item | None]:
    return [next((item for item in scene.items if item.kind == kind), None) for scene in drawn.scenes]


def first_change(drawn: Clip, kind: str) -> int:
    return next(number for number, (a, b) in enumerate(pairwise(looks(drawn, kind)), 1) if a != b)


def named(text: str) -> str:
    """The kind named in a question or an answer."""
    return next(kind for kind, words in WORDS.items() if any(word in text for word in words))


def expected(drawn: Clip, qa: QAPair) -> str:
    """The answer to a question that is not about a time."""
    if qa.task in ("clip_moves", "clip_changes"):
        kinds = {item.kind for scene in drawn.scenes for item in scene.items}
        parts = {kind: [item for item in looks(drawn, kind) if item] for kind in kinds}
        found = [
            kind
            for kind, shown in parts.items()
            if len({item.box if qa.task == "clip_moves" else item.colour for item in shown}) > 1
        ]
        return WORDS[found[0]][qa.language == "zh"] if found else NOTHING[qa.language]
    item = looks(drawn, named(qa.question))[0 if qa.task == "clip_first_colour" else -1]
    assert item is not None
    return item.colour if qa.language == "en" else ZH[item.colour]


def test_answers_follow_from_the_frames() -> None:
    tasks = set()
    for seed in range(40):
        drawn = clip(seed)
        times = drawn.timing.seconds
        interval = max(b - a for a, b in pairwise(times))
        for qa in islice(clip_questions(drawn, np.random.default_rng(seed)), 8):
            tasks.add(qa.task)
            if qa.task in TIMES:
                frame = first_change(drawn, named(qa.question))
                answered = float(qa.answer.removesuffix(" seconds").removesuffix("秒"))
                assert abs(answered - times[frame]) <= interval / 2 + 0.05 + 1e-9, qa
            else:
                assert qa.answer == expected(drawn, qa), qa
    assert tasks == set(CLIP_TEMPLATES)


def test_attention_lies_on_the_item_in_the_pairs_of_the_answer() -> None:
    for seed in range(30):
        drawn = clip(seed)
        for qa in islice(clip_questions(drawn, np.random.default_rng(seed)), 8):
            (target,) = qa.attention
            assert target.counted == (qa.answer in NOTHING.values())
            assert len(target.images) == len(target.boxes)
            if qa.task in TIMES:
                (pair,) = set(target.images)
                assert f"{drawn.timing.pairs[pair]:.1f}" == qa.answer[: target.end]
