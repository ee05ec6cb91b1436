"""Log probabilities of an answer's tokens: those of the model, each once, however text is held back."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

import vlrun
from tests.paths import EXAMPLES
from vlrun.engine.sampler import score_token
from vlrun.errors import OptionError
from vlrun.types.options import Options
from vlrun.vlm import VLM

SHELF = EXAMPLES / "shelf.png"
QUESTION = "How many bottles are there?"


@pytest.fixture(scope="module")
def vlm() -> Iterator[VLM]:
    with vlrun.load() as loaded:
        yield loaded


@pytest.mark.slow
def test_logprobs_are_those_of_the_model(vlm: VLM) -> None:
    """Guards against probabilities after temperature, penalties or a schema."""
    options = Options(logprobs=3, temperature=0.7, presence_penalty=1.5, seed=1, prompt_lookup=False)
    answer = vlm.ask(SHELF, QUESTION, options)
    rows = vlm.score(SHELF, QUESTION, answer.text)
    assert len(answer.logprobs) == len(answer.tokens) >= 1
    for score, row, token in zip(answer.logprobs, rows, answer.tokens, strict=False):
        scores = row[: vlm.manifest.text.vocab_size].astype(np.float64)
        expected = scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
        assert math.isclose(score.logprob, expected[token], abs_tol=1e-4)
        assert [top.logprob for top in score.top] == pytest.approx(sorted(expected)[:-4:-1], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(), ("@@@@",), ("there",)])
def test_chunks_carry_each_token_once(vlm: VLM, stop: tuple[str, ...]) -> None:
    """Guards streams: whatever text is held back, every token's log probability comes once and in order."""
    options = Options(logprobs=0, stop=stop, max_tokens=30)
    chunks = list(vlm.stream(SHELF, "Describe this image.", options))
    whole = chunks[-1].answer
    assert whole is not None
    assert [token for chunk in chunks for token in chunk.logprobs] == list(whole.logprobs)
    joined = b"".join(token.raw for token in whole.logprobs).decode()
    assert joined.startswith(whole.text)
    assert all(not token.top for token in whole.logprobs)


def test_ties_and_small_vocabularies() -> None:
    """Guards the order of equal scores, and a request for as many tokens as exist."""
    row = np.array([1.0, 3.0, 3.0, 0.0], np.float32)
    score = score_token(row, 2, 4)
    assert [token for token, _ in score.top] == [1, 2, 0, 3]
    assert score.logprob == score.top[0][1]
    assert math.isclose(sum(math.exp(logprob) for _, logprob in score.top), 1, rel_tol=1e-6)


@pytest.mark.parametrize("wrong", [-1, 21, True, 1.5])
def test_impossible_counts_are_refused(wrong: object) -> None:
    """Guards the limit of 20."""
    with pytest.raises(OptionError, match="logprobs must"):
        Options(logprobs=wrong)  # type: ignore[arg-type]
