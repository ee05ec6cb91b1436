"""Questions about scenes have correct answers and attention targets."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from tests.training.scenes import KIND_NAMES, SEEDS, named_kind, questions_of, scene
from training.scene_questions import qa_pairs
from training.templates import ZH


@pytest.mark.slow
def test_counts_equal_the_number_of_drawn_items() -> None:
    checked = 0
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        counts = Counter(item.kind for item in drawn.items)
        for qa in questions_of(drawn, "count_kind"):
            kind = named_kind(qa.question, KIND_NAMES)
            assert kind is not None, qa.question
            assert qa.answer == str(counts[kind])
            checked += 1
        assert all(json.loads(qa.answer) == dict(counts) for qa in questions_of(drawn, "json"))
        assert all(qa.answer == str(len(drawn.items)) for qa in questions_of(drawn, "count_items"))
        assert all(qa.answer == str(drawn.shelves) for qa in questions_of(drawn, "count_shelves"))
    assert checked > 50


@pytest.mark.parametrize("domain", ["shelf", "shapes"])
def test_located_items_are_unambiguous(domain: str) -> None:
    """The label fits exactly one item, and the box is that item's, within 0..1000."""
    checked = 0
    for seed in SEEDS:
        drawn = scene(domain, seed)
        for qa in questions_of(drawn, "where"):
            answer = json.loads(qa.answer)
            words = answer["label"].split()
            fits = [i for i in drawn.items if i.kind == words[-1] and (len(words) == 1 or i.colour == words[0])]
            assert len(fits) == 1
            assert all(0 <= edge <= 1000 and edge % 10 == 0 for edge in answer["bbox_2d"])
            assert np.allclose(np.array(answer["bbox_2d"]) / 1000, fits[0].box, atol=0.0051)
            checked += 1
    assert checked > 20


@pytest.mark.slow
def test_yes_and_no_are_balanced_and_correct() -> None:
    """Guards against a model that learns the prior."""
    answers = Counter()  # type: Counter[bool]
    for seed in range(60):
        drawn = scene("shapes", seed)
        for qa in questions_of(drawn, "exists"):
            yes = qa.answer in ("yes", "有")
            present = any(
                (f"{i.colour} {i.kind}" in qa.question) or (ZH[i.colour] in qa.question and ZH[i.kind] in qa.question)
                for i in drawn.items
            )
            assert yes == present, qa
            answers[yes] += 1
    assert 0.3 < answers[True] / answers.total() < 0.7


@pytest.mark.parametrize(("domain", "task"), [("tag", "price"), ("sign", "read")])
def test_answers_equal_the_drawn_text(domain: str, task: str) -> None:
    for seed in SEEDS:
        drawn = scene(domain, seed)
        assert "".join(glyph.character for glyph in drawn.glyphs) == drawn.text
        assert [g.box[0] for g in drawn.glyphs] == sorted(g.box[0] for g in drawn.glyphs)
        assert {qa.answer for qa in questions_of(drawn, task)} == {drawn.text}
        assert re.fullmatch(r"\$\d{1,2}\.\d\d" if domain == "tag" else "[A-Z]{2,6}", drawn.text)


@pytest.mark.parametrize("domain", ["shelf", "shapes", "tag", "sign"])
def test_attention_targets_are_the_items_in_the_answer(domain: str) -> None:
    """A number has as many boxes as it counts; a name or letter has its own."""
    checked = 0
    for seed in SEEDS:
        drawn = scene(domain, seed)
        for qa in islice(qa_pairs(drawn, np.random.default_rng(7)), 40):
            for target in qa.attention:
                part = qa.answer[target.start : target.end]
                if part.isdecimal() and target.counted:
                    assert len(target.boxes) == int(part), qa
                elif domain in ("tag", "sign"):
                    assert [g.character for g in drawn.glyphs if g.box in target.boxes] == [part], qa
                elif qa.task == "describe":
                    (item,) = [i for i in drawn.items if i.box in target.boxes]
                    assert item.kind in part or ZH[item.kind] in part, qa
                    assert item.colour in part or ZH[item.colour] in part, qa
                checked += 1
    assert checked > 100
