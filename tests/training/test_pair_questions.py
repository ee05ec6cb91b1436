"""Questions about two images have correct answers."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from tests.training.scenes import KIND_NAMES, named_kind, scene
from training.pair_questions import ANSWERS, pair_questions


@pytest.mark.slow
def test_answers_about_two_images_are_correct() -> None:
    tasks: Counter[str] = Counter()
    for seed in range(40):
        scenes = [scene("shelf", 2 * seed), scene("shelf", 2 * seed + 1)]
        counts = [Counter(item.kind for item in one.items) for one in scenes]
        for qa in islice(pair_questions(scenes, np.random.default_rng(seed)), 12):
            tasks[qa.task] += 1
            kind = named_kind(qa.question, KIND_NAMES)
            first, second = (one[kind or ""] for one in counts)
            if qa.task == "which_more":
                index = 0 if first > second else 1 if second > first else 2
                assert qa.answer in {ANSWERS[language][index] for language in ("en", "zh")}
            elif qa.task == "count_in":
                number = "12".index(re.sub("[^12]", "", qa.question))
                assert qa.answer == str((first, second)[number])
            elif qa.task == "compare":
                different = sum(counts[0][kind] != counts[1][kind] for kind in KIND_NAMES)
                assert len(qa.attention) == 2 * different
            for target in qa.attention:
                assert len(target.images) == len(target.boxes)
    assert set(tasks) == {"which_more", "count_in", "which_has", "compare"}
