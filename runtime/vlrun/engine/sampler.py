"""From logits to the next token: penalties, temperature, top-k, top-p, min-p, greedy or drawn.

NumPy on one row of logits; knows ids, no text. Order and meaning of the steps follow transformers 4.57.6,
``generation/logits_process.py`` (repetition penalty over prompt and answer, then temperature, top-k, top-p, min-p);
presence and frequency penalty count the answer alone and follow OpenAI's definition, as vLLM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlrun.errors import DeviceError, VlrunError
from vlrun.types.sampling import SamplingParams

FloatRow = npt.NDArray[np.float32]
FloatRows = npt.NDArray[np.float32]


class TokenSampler(Protocol):
    """Says which token comes next, given ``logits [vocab_rows]``. Called once for each token, in order."""

    def choose(self, logits: FloatRow) -> int:
        """The next token."""

    def forced(self) -> Sequence[int]:
        """Tokens that will be chosen whatever the logits say, as far as that is known."""


class Constraint(Protocol):
    """What an answer must look like."""

    def mask(self, scores: FloatRow) -> None:
        """Set the scores ``[vocab_size]`` of all that may not come next to minus infinity."""

    def accept(self, token: int) -> None:
        """Say what came."""

    def forced(self) -> Sequence[int]:
        """Tokens that must come next."""


@dataclass(frozen=True)
class TokenScore:
    """A token that was chosen, the logarithm of its probability by the model alone, and the likeliest at its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class TeacherForcedSampler:
    """Chooses given tokens, and keeps the logits before each."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.rows: list[FloatRow] = []

    def choose(self, logits: FloatRow) -> int:
        """The next of the given tokens."""
        self.rows.append(logits.copy())
        return self.tokens[len(self.rows) - 1]

    def forced(self) -> Sequence[int]:
        """None: they are run one by one, as an answer is."""
        return ()


class Sampler:
    """Chooses the tokens of one answer. ``vocab_size``: ids from there on are padding rows and never chosen;
    ``constraint``: what else is never chosen; ``logprobs``: keep how likely each token was, beside so many others.
    """

    def __init__(
        self,
        sampling: SamplingParams,
        prompt: Sequence[int],
        vocab_size: int,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> None:
        self.likely: list[TokenScore] = []
        self._logprobs = logprobs
        self._sampling = sampling
        self._constraint = constraint
        self._vocab_size = vocab_size
        self._counts = np.zeros(vocab_size, np.int32)
        self._seen = np.zeros(vocab_size, np.bool_)
        self._seen[[token for token in prompt if token < vocab_size]] = True
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    def choose(self, logits: FloatRow) -> int:
        """The next token, given ``logits [vocab_rows]``; counts it for the penalties. Raises DeviceError for NaN."""
        scores = self._penalized(logits[: self._vocab_size].astype(np.float32))
        if not np.isfinite(scores.max()):
            raise DeviceError("the model's output is not finite: this device needs another --decoder-precision")
        if self._constraint:
            self._constraint.mask(scores)
        token = int(np.argmax(scores)) if self._sampling.temperature == 0 else self._draw(scores)
        if self._constraint:
            self._constraint.accept(token)
        if self._logprobs is not None:
            self.likely.append(likely(logits[: self._vocab_size], token, self._logprobs))
        self._counts[token] += 1
        self._seen[token] = True
        return token

    def forced(self) -> Sequence[int]:
        """What the constraint says must come; where it fails, the next choice tells."""
        if self._constraint is None:
            return ()
        try:
            return self._constraint.forced()
        except VlrunError:
            return ()

    def _penalized(self, scores: FloatRow) -> FloatRow:
        s = self._sampling
        if s.repetition_penalty != 1:
            seen = scores[self._seen]
            scores[self._seen] = np.where(seen < 0, seen * s.repetition_penalty, seen / s.repetition_penalty)
        if s.frequency_penalty != 0:
            scores -= np.float32(s.frequency_penalty) * self._counts
        if s.presence_penalty != 0:
            scores -= np.float32(s.presence_penalty) * (self._counts > 0)
        return scores

    def _draw(self, scores: FloatRow) -> int:
        tokens, probabilities = truncate(scores, self._sampling)
        point = self._random.random() * float(probabilities.sum())  # one number a token, whatever is kept
        index = int(np.searchsorted(np.cumsum(probabilities), point, side="right"))
        return int(tokens[min(index, len(tokens) - 1)])


def truncate(scores: FloatRow, sampling: SamplingParams) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Tokens that may be drawn, best first, with their probabilities (which sum to 1 before truncation by top-p).

    ``scores [vocab_size]``: logits after the penalties; ``sampling.temperature`` must not be 0.
    """
    kept = _top_k(scores, sampling.top_k)
    order = kept[np.argsort(-scores[kept], kind="stable")]
    ranked = scores[order].astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to minus infinity, as it should
        probabilities = np.exp((ranked - ranked[0]) / sampling.temperature)
    probabilities /= probabilities.sum()
    count = len(order)
    if sampling.top_p < 1:
        # The token that crosses the threshold stays, as in the reference.
        count = int(np.searchsorted(np.cumsum(probabilities), sampling.top_p, side="left")) + 1
    if sampling.min_p > 0:
        # Of what top-p left, those at least min_p times as likely as the best.
        count = min(count, int(np.count_nonzero(probabilities >= sampling.min_p * probabilities[0])))
    return order[:count], probabilities[:count]


def likely(logits: FloatRow, token: int, count: int) -> TokenScore:
    """How likely a token is under ``logits [vocab_size]``, beside the ``count`` likeliest, best first."""
    row = logits.astype(np.float64)
    row -= row.max()
    row -= np.log(np.exp(row).sum())
    best = np.argpartition(-row, min(count, len(row) - 1))[:count] if count else np.zeros(0, np.int64)
    best = best[np.lexsort((best, -row[best]))]
    return TokenScore(token, float(row[token]), tuple((int(other), float(row[other])) for other in best))


def _top_k(scores: FloatRow, k: int) -> npt.NDArray[np.int64]:
    if k == 0 or k >= len(scores):
        return np.arange(len(scores))
    threshold = np.partition(scores, -k)[-k]
    return np.flatnonzero(scores >= threshold)
