"""How likely the tokens of an answer are: as the model sees it, token by token, however text is held back."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from tokenizers import Tokenizer

import vlrun
from tests.paths import EXAMPLES
from vlrun.embedded import FOLDER
from vlrun.engine.sampler import score_token
from vlrun.errors import OptionError
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.types.options import Options
from vlrun.vlm import VLM

SHELF = EXAMPLES / "shelf.png"
QUESTION = "How many bottles are there?"


@pytest.fixture(scope="module")
def vlm() -> Iterator[VLM]:
    with vlrun.load() as loaded:
        yield loaded


def test_they_are_those_of_the_models_own_scores(vlm: VLM) -> None:
    """Guards against logarithms of what was left after temperature, penalties or a schema."""
    options = Options(logprobs=3, temperature=0.7, presence_penalty=1.5, seed=1, prompt_lookup=False)
    answer = vlm.ask(SHELF, QUESTION, options)
    rows = vlm.score(SHELF, QUESTION, answer.text)
    assert len(answer.logprobs) == len(answer.tokens) >= 1
    for said, row, token in zip(answer.logprobs, rows, answer.tokens, strict=False):
        scores = row[: vlm.manifest.text.vocab_size].astype(np.float64)
        expected = scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
        assert math.isclose(said.logprob, expected[token], abs_tol=1e-4)
        assert [top.logprob for top in said.top] == pytest.approx(sorted(expected)[:-4:-1], abs=1e-4)


@pytest.mark.parametrize("stop", [(), ("@@@@",), ("there",)])
def test_chunks_bring_each_token_once(vlm: VLM, stop: tuple[str, ...]) -> None:
    """Guards streams: whatever text is held back, every token's likelihood comes once and in order."""
    options = Options(logprobs=0, stop=stop, max_tokens=30)
    chunks = list(vlm.stream(SHELF, "Describe this image.", options))
    whole = chunks[-1].answer
    assert whole is not None
    assert [token for chunk in chunks for token in chunk.logprobs] == list(whole.logprobs)
    spelled = b"".join(token.raw for token in whole.logprobs).decode()
    assert spelled.startswith(whole.text)
    assert all(not token.top for token in whole.logprobs)


def test_ties_and_small_vocabularies() -> None:
    """Guards the order of equals, and asking for as many as there are."""
    row = np.array([1.0, 3.0, 3.0, 0.0], np.float32)
    told = score_token(row, 2, 4)
    assert [token for token, _ in told.top] == [1, 2, 0, 3]
    assert told.logprob == told.top[0][1]
    assert math.isclose(sum(math.exp(logprob) for _, logprob in told.top), 1, rel_tol=1e-6)


def test_tokens_spell_any_text() -> None:
    """Guards characters that are cut between tokens: their bytes are told, whatever they look like alone."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    spelling = TokenBytes(tokenizer)
    for text in ("6 bottles", "多少个瓶子？", "naïve 🙂\n\tÿ­"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(spelling.raw(token) for token in ids).decode() == text
    assert spelling.raw(tokenizer.token_to_id("<|im_end|>")) == b"<|im_end|>"
    assert spelling.raw(10**9) == b""


@pytest.mark.parametrize("wrong", [-1, 21, True, 1.5])
def test_impossible_counts_are_refused(wrong: object) -> None:
    """Guards the limit of 20."""
    with pytest.raises(OptionError, match="logprobs must"):
        Options(logprobs=wrong)  # type: ignore[arg-type]
