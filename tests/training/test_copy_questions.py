"""Copying text: the answer is the text in the question."""

from __future__ import annotations

import numpy as np

from training.copy_questions import MAX_LINES, copy_question


def test_the_answer_is_the_text_in_the_question() -> None:
    for seed in range(50):
        qa = copy_question(np.random.default_rng(seed))
        assert qa.question.endswith(f"\n{qa.answer}")
        assert 1 <= len(qa.answer.splitlines()) <= MAX_LINES


def test_the_text_has_as_many_lines_as_requested() -> None:
    assert "\n" not in copy_question(np.random.default_rng(0), lines=1).answer
    assert copy_question(np.random.default_rng(0), lines=3).answer.count("\n") == 2
