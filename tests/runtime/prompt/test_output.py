"""Log probabilities of an answer's tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

import vlrun
from tests.paths import EXAMPLES
from vlrun.types.options import Options
from vlrun.vlm import VLM

SHELF = EXAMPLES / "shelf.png"
QUESTION = "How many bottles are there?"


@pytest.fixture(scope="module")
def vlm() -> Iterator[VLM]:
    with vlrun.load() as loaded:
        yield loaded


@pytest.mark.slow
def test_logprobs_are_those_of_the_raw_logits(vlm: VLM) -> None:
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
def test_chunks_carry_each_logprob_once_and_in_order(vlm: VLM, stop: tuple[str, ...]) -> None:
    """Also while text is held back because it may begin a stop string."""
    options = Options(logprobs=0, stop=stop, max_tokens=30)
    chunks = list(vlm.stream(SHELF, "Describe this image.", options))
    answer = chunks[-1].answer
    assert answer is not None
    assert [token for chunk in chunks for token in chunk.logprobs] == list(answer.logprobs)
    joined = b"".join(token.raw for token in answer.logprobs).decode()
    assert joined.startswith(answer.text)
    assert all(not token.top for token in answer.logprobs)
