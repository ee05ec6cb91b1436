"""Prompt lookup: guesses save forward passes and never change an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.runtime.engine.fake_decoder import VOCABULARY, FakeDecoder
from tests.runtime.engine.requests import make_prompt, make_request, running_engine
from vlrun.engine.prompt_lookup import PromptLookup
from vlrun.engine.sampler import Sampler
from vlrun.types.sampling import SamplingParams


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_prompt_lookup_saves_passes_and_keeps_the_answer(temperature: float) -> None:
    """With a seed, sampled answers are equal too."""
    prompt = make_prompt([1, 2, 3, 4, 5, 6] * 3, 80)
    answers, passes = [], []
    for lookup in (False, True):
        with running_engine(FakeDecoder(100)) as engine:
            sampler = Sampler(SamplingParams(temperature=temperature, seed=3), prompt.ids, VOCABULARY)
            stream = engine.submit(replace(make_request(prompt, lookup), sampler=sampler, eos=frozenset()))
            answers.append(list(stream))
            passes.append(stream.metrics.forward_passes)
    assert answers[0] == answers[1]
    assert passes[1] < passes[0] == 80


def test_rejected_guesses_delay_the_next_attempt() -> None:
    text = [1, 2, 3, 1, 2]
    lookup = PromptLookup(text)
    assert lookup.guess(8) == [3, 1, 2]
    assert lookup.guess(1) == [3]
    attempts = 0
    for _ in range(300):
        guessed = lookup.guess(8)
        attempts += bool(guessed)
        text += [1, 2]
        lookup.update(len(guessed), 0)
    assert attempts < 12
