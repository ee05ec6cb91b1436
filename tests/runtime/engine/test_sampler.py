"""Sampling compared with transformers' logits processors, seeds and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.engine.sampler import Sampler, score_token, truncate
from vlrun.errors import DeviceError
from vlrun.types.sampling import MAX_SEED, SamplingParams

VOCAB = 50


def logits(seed: int, rows: int = VOCAB) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3, size=rows).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, VOCAB + 5),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.5),
)
def test_kept_tokens_and_probabilities_equal_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Guards the order and the borders of temperature, top-k, top-p and min-p."""
    torch = pytest.importorskip("torch")
    generation = pytest.importorskip("transformers.generation.logits_process")
    scores = torch.from_numpy(logits(seed))[None].double()
    steps = [generation.TemperatureLogitsWarper(temperature)]
    steps += [generation.TopKLogitsWarper(top_k)] if top_k else []
    steps += [generation.TopPLogitsWarper(top_p)] if top_p < 1 else []
    steps += [generation.MinPLogitsWarper(min_p)] if min_p else []
    expected = generation.LogitsProcessorList(steps)(torch.zeros(1, 1, dtype=torch.long), scores)
    expected = expected.softmax(-1)[0].numpy()
    tokens, probabilities = truncate(logits(seed), SamplingParams(temperature, top_k, top_p, min_p))
    ours = np.zeros(VOCAB)
    ours[tokens] = probabilities / probabilities.sum()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_repetition_penalty_equals_transformers() -> None:
    """The penalty covers prompt and answer; it divides positive logits and multiplies negative ones."""
    torch = pytest.importorskip("torch")
    generation = pytest.importorskip("transformers.generation.logits_process")
    row, prompt = logits(3), [4, 9, 9, 11]
    sampler = Sampler(SamplingParams(temperature=0, repetition_penalty=5.0), prompt, VOCAB)
    chosen: list[int] = []
    for _ in range(6):
        history = torch.tensor([prompt + chosen])
        reference = generation.RepetitionPenaltyLogitsProcessor(5.0)(history, torch.from_numpy(row)[None].clone())
        chosen.append(sampler.sample(row))
        assert chosen[-1] == int(reference.argmax())


def test_presence_and_frequency_penalties_count_only_the_answer() -> None:
    """OpenAI's definition: presence counts once, frequency each time, the prompt never."""
    row = np.zeros(VOCAB, np.float32)
    row[7], row[8] = 1.0, 0.5
    presence = Sampler(SamplingParams(temperature=0, presence_penalty=0.4), [7, 7, 7], VOCAB)
    assert [presence.sample(row) for _ in range(3)] == [7, 7, 7]  # 1.0 - 0.4 stays above 0.5
    frequency = Sampler(SamplingParams(temperature=0, frequency_penalty=0.4), [7, 7, 7], VOCAB)
    assert [frequency.sample(row) for _ in range(3)] == [7, 7, 8]  # 1.0, 0.6, then 0.2 against 0.5


@given(seed=st.integers(0, MAX_SEED), temperature=st.sampled_from([0.0, 0.7, 2.0]))
@settings(max_examples=40, deadline=None)
def test_padding_rows_are_never_sampled(seed: int, temperature: float) -> None:
    """The head has more rows than the tokenizer has tokens."""
    row = logits(1, VOCAB + 30)
    row[VOCAB:] = 100
    sampler = Sampler(SamplingParams(temperature=temperature, seed=seed), [], VOCAB)
    assert all(sampler.sample(row) < VOCAB for _ in range(20))


def test_seeds_repeat_and_samples_follow_the_probabilities() -> None:
    """Chi-square over 4,000 draws."""
    row = logits(5, 8)
    draws = [[Sampler(SamplingParams(seed=s), [], 8).sample(row) for s in range(4000)] for _ in range(2)]
    assert draws[0] == draws[1]
    tokens, probabilities = truncate(row, SamplingParams())
    expected = np.zeros(8)
    expected[tokens] = probabilities * 4000
    counts = np.bincount(draws[0], minlength=8)
    kept = expected > 5
    assert ((counts - expected)[kept] ** 2 / expected[kept]).sum() < 30


def test_tiny_temperature_is_greedy() -> None:
    """Guards against an overflow that sampled the least likely token."""
    row = logits(4)
    assert Sampler(SamplingParams(temperature=1e-320, seed=1), [], VOCAB).sample(row) == int(row.argmax())


def test_logits_that_are_not_finite_are_a_device_error() -> None:
    """Guards against silent garbage from a broken device."""
    with pytest.raises(DeviceError, match="not finite"):
        Sampler(SamplingParams(temperature=0), [], VOCAB).sample(np.full(VOCAB, np.nan, np.float32))


def test_token_scores_are_ranked_with_ties_in_id_order() -> None:
    row = np.array([1.0, 3.0, 3.0, 0.0], np.float32)
    score = score_token(row, 2, 4)
    assert [token for token, _ in score.top] == [1, 2, 0, 3]
    assert score.logprob == score.top[0][1]
    assert math.isclose(sum(math.exp(logprob) for _, logprob in score.top), 1, rel_tol=1e-6)
