"""Random answers under a grammar."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from vlrun.embedded import FOLDER
from vlrun.structured.grammar import Grammar, GrammarTokenizer

EOS = (1006, 1004)
VOCAB_SIZE = 1024
TEXT_TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
TOKENIZER = GrammarTokenizer(TEXT_TOKENIZER, EOS, VOCAB_SIZE)


def text_of(tokens: list[int]) -> str:
    """Decode tokens; raise UnicodeDecodeError for bytes that are not UTF-8."""
    return bytes(TOKENIZER.load().decode_bytes(tokens)).decode("utf-8")


def closing_tokens() -> list[int]:
    """Return the tokens that begin with a closing character, and the end tokens."""
    tokens = TOKENIZER.load()
    return [i for i in range(VOCAB_SIZE) if tokens.decode_bytes([i])[:1] in (b'"', b"}", b"]")] + list(EOS)


def random_answers(grammar: Grammar, random: np.random.Generator, count: int) -> list[str]:
    """Return up to ``count`` complete answers from ten times as many attempts."""
    return list(islice(complete_answers(grammar, random, 10 * count), count))


def complete_answers(grammar: Grammar, random: np.random.Generator, attempts: int) -> Iterator[str]:
    for _ in range(attempts):
        if (text := random_answer(grammar, random)) is not None:
            yield text


def random_answer(grammar: Grammar, random: np.random.Generator, limit: int = 150) -> str | None:
    """Return an answer from random logits, increasingly biased towards an end; None if it was cut short."""
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
