"""Answers of a model that knows nothing: random logits under a schema. For the tests of grammars."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from vlrun.embedded import FOLDER
from vlrun.structured.grammar import Grammar, GrammarTokenizer

EOS = (1006, 1004)
VOCAB_SIZE = 1024
TOKENIZER = GrammarTokenizer(FOLDER / "tokenizer.json", EOS, VOCAB_SIZE)


def text_of(tokens: list[int]) -> str:
    """What the tokens say; fails for bytes that are no UTF-8."""
    return bytes(TOKENIZER.load().decode_bytes(tokens)).decode("utf-8")


def closing_tokens() -> list[int]:
    """Tokens that begin with what closes a string, list or object, and the ends."""
    tokens = TOKENIZER.load()
    return [i for i in range(VOCAB_SIZE) if tokens.decode_bytes([i])[:1] in (b'"', b"}", b"]")] + list(EOS)


def random_answers(grammar: Grammar, random: np.random.Generator, count: int) -> list[str]:
    """So many answers that came to an end, or what one in ten attempts gives."""
    return list(islice(_ended(grammar, random, 10 * count), count))


def _ended(grammar: Grammar, random: np.random.Generator, attempts: int) -> Iterator[str]:
    for _ in range(attempts):
        if (text := random_answer(grammar, random)) is not None:
            yield text


def random_answer(grammar: Grammar, random: np.random.Generator, limit: int = 150) -> str | None:
    """An answer from random logits that lean more and more to an end; None if it was cut short."""
    constraint, answer, closing = grammar.constraint(), list[int](), closing_tokens()
    for step in range(limit):
        scores = random.standard_normal(VOCAB_SIZE).astype(np.float32) * 3
        scores[closing] += 0.15 * step
        constraint.mask(scores)
        token = int(scores.argmax())
        constraint.accept(token)
        if token in EOS:
            return text_of(answer)
        answer.append(token)
    return None
