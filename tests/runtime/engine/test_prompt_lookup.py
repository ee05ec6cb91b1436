"""Guesses at the next tokens, and the guard against answers that go round in a circle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.runtime.engine.fake_decoder import VOCABULARY, FakeDecoder
from tests.runtime.engine.requests import GreedySampler, make_prompt, make_request, running_engine
from vlrun.engine.prompt_lookup import PromptLookup
from vlrun.engine.repetition import MIN_TOKENS, repeats
from vlrun.engine.sampler import Sampler
from vlrun.types.arrays import FloatArray
from vlrun.types.sampling import SamplingParams


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_guesses_change_the_passes_and_not_the_answer(temperature: float) -> None:
    """Guards prompt lookup: greedy and, with a seed, drawn answers are the same; copying takes fewer passes."""
    asked = make_prompt([1, 2, 3, 4, 5, 6] * 3, 80)
    answers, passes = [], []
    for lookup in (False, True):
        with running_engine(FakeDecoder(100)) as engine:
            sampler = Sampler(SamplingParams(temperature=temperature, seed=3), asked.ids, VOCABULARY)
            stream = engine.submit(replace(make_request(asked, lookup), sampler=sampler, eos=frozenset()))
            answers.append(list(stream))
            passes.append(stream.metrics.forward_passes)
    assert answers[0] == answers[1]
    assert passes[1] < passes[0] == 80


def test_guesses_pause_where_they_do_not_pay() -> None:
    """Guards the cost: after wrong guesses nothing is tried for a while, and longer each time."""
    text = [1, 2, 3, 1, 2]
    lookup = PromptLookup(text)
    assert lookup.guess(8) == [3, 1, 2]
    assert lookup.guess(1) == [3]
    tried = 0
    for _ in range(300):
        guessed = lookup.guess(8)
        tried += bool(guessed)
        text += [1, 2]
        lookup.update(len(guessed), 0)
    assert tried < 12


def test_the_guard_knows_a_circle() -> None:
    """Guards endless answers, and leaves lists and tables alone."""
    assert repeats([5] * MIN_TOKENS)
    assert repeats([9] * 16 + [1, 2, 3, 4] * 48)
    assert repeats([9] * 11 + list(range(61)) * 9)
    assert not repeats([5] * (MIN_TOKENS - 16))
    table = [token for row in range(60) for token in (1, 2, row + 100, 3)]
    assert not repeats(table[:240])


def test_a_circle_ends_the_answer() -> None:
    """Guards the finish reason, and the option to switch the guard off."""

    class Stubborn(GreedySampler):
        def sample(self, logits: FloatArray) -> int:
            return 3

    asked = make_prompt([1], 300)
    with running_engine(FakeDecoder(100)) as engine:
        for guard, reason, length in ((True, "repetition", MIN_TOKENS), (False, "length", 300)):
            stream = engine.submit(replace(make_request(asked), sampler=Stubborn(), repetition_guard=guard))
            assert len(list(stream)) == length
            assert stream.finish_reason == reason
