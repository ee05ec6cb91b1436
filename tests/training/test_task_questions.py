"""Questions of tasks have correct answers."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from tests.training.scenes import KIND_NAMES, SEEDS, scene
from training.task_questions import task_questions
from training.templates import ZH


@pytest.mark.parametrize("domain", ["shelf", "tag", "sign", "shapes"])
def test_task_answers_are_correct(domain: str) -> None:
    tasks: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = scene(domain, seed)
        counts = Counter(item.kind for item in drawn.items)
        for turns in islice(task_questions(drawn, np.random.default_rng(seed)), 12):
            qa = turns[-1]
            tasks[qa.task] += 1
            if qa.task == "count":
                answer = json.loads(qa.answer)
                assert answer["total"] == sum(answer["items"].values())
                for name, number in answer["items"].items():
                    kind = name if name in counts or name in KIND_NAMES else {ZH[k]: k for k in ZH}.get(name, name)
                    assert number == counts[kind], (name, number)
                    assert name in qa.question or "every kind" in qa.question or "每种" in qa.question
            elif qa.task == "locate":
                for box in json.loads(qa.answer):
                    *colour, kind = box["label"].split()
                    fits = [i for i in drawn.items if i.kind == kind and colour in ([], [i.colour])]
                    assert any(np.allclose(np.array(box["bbox_2d"]) / 1000, i.box, atol=0.0051) for i in fits)
            elif qa.task == "fields":
                assert max(json.loads(qa.answer).values()) == drawn.text
            else:
                assert qa.answer == drawn.text
            for target in qa.attention:
                assert 0 <= target.start < target.end <= len(qa.answer)
    assert set(tasks) == ({"count", "locate"} if domain in ("shelf", "shapes") else {"fields", "ocr"})


def test_reasoning_lists_the_items_of_each_shelf() -> None:
    checked = 0
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        for turns in islice(task_questions(drawn, np.random.default_rng(seed)), 20):
            if len(turns) == 2:
                steps, count = turns
                assert steps.answer.count("Row " if steps.language == "en" else "第") == drawn.shelves
                numbers = [int(steps.answer[target.start : target.end]) for target in steps.attention]
                assert sum(numbers) == len(drawn.items)
                assert count.task == "count"
                checked += 1
    assert checked > 10
