"""From logits to the next token: penalties, temperature, top-k, top-p, min-p, then greedy or random.

The steps and their order follow transformers 4.57.6, ``generation/logits_process.py`` (repetition penalty over prompt
and output, then temperature, top-k, top-p, min-p). Presence and frequency penalties count the output only, as OpenAI
defines them and vLLM implements them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlrun.errors import DeviceError, VlrunError
from vlrun.types.arrays import FloatArray
from vlrun.types.sampling import SamplingParams


class TokenSampler(Protocol):
    """Chooses the tokens of one output, in order."""

    def sample(self, logits: FloatArray) -> int:
        """Return the next token, given ``logits [vocab_rows]``."""

    def forced_tokens(self) -> Sequence[int]:
        """Return the next tokens as far as they are known without logits."""


class Constraint(Protocol):
    """Restricts which tokens may come next."""

    def mask(self, scores: FloatArray) -> None:
        """Set the ``scores [vocab_size]`` of forbidden tokens to minus infinity, in place."""

    def accept(self, token: int) -> None:
        """Advance by the sampled token."""

    def forced(self) -> Sequence[int]:
        """Return the tokens that must come next; empty if there is a choice."""


@dataclass(frozen=True)
class TokenScore:
    """A sampled token's log probability under the unmodified logits, and the ``top`` tokens (id, log probability)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class TeacherForcedSampler:
    """Returns given tokens and records the logits before each of them."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.logits: list[FloatArray] = []

    def sample(self, logits: FloatArray) -> int:
        """Return the next of the given tokens."""
        self.logits.append(logits.copy())
        return self.tokens[len(self.logits) - 1]

    def forced_tokens(self) -> Sequence[int]:
        """Return none, so that the tokens run one by one as in an output."""
        return ()


class Sampler:
    """Samples the tokens of one output.

    Args:
        params: Sampling parameters.
        prompt: Token ids of the prompt, for the repetition penalty.
        vocab_size: Logits from this row on are padding and are never sampled.
        constraint: Restricts the tokens further.
        logprobs: Number of top tokens in each token's TokenScore; None records no scores.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        vocab_size: int,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> None:
        self.scores: list[TokenScore] = []
        self._logprobs = logprobs
        self._params = params
        self._constraint = constraint
        self._vocab_size = vocab_size
        self._counts = np.zeros(vocab_size, np.int32)
        self._seen = np.zeros(vocab_size, np.bool_)
        self._seen[[token for token in prompt if token < vocab_size]] = True
        self._random = np.random.Generator(np.random.PCG64(params.seed))

    def sample(self, logits: FloatArray) -> int:
        """Return the next token, given ``logits [vocab_rows]``. Raises DeviceError for logits that are not finite."""
        scores = self._penalize(logits[: self._vocab_size].astype(np.float32))
        if not np.isfinite(scores.max()):
            raise DeviceError("the model's output is not finite; try another --decoder-precision on this device")
        if self._constraint:
            self._constraint.mask(scores)
        token = int(np.argmax(scores)) if self._params.temperature == 0 else self._draw(scores)
        if self._constraint:
            self._constraint.accept(token)
        if self._logprobs is not None:
            self.scores.append(score_token(logits[: self._vocab_size], token, self._logprobs))
        self._counts[token] += 1
        self._seen[token] = True
        return token

    def forced_tokens(self) -> Sequence[int]:
        """Return what the constraint forces. An error of the constraint is left to the next ``sample``."""
        if self._constraint is None:
            return ()
        try:
            return self._constraint.forced()
        except VlrunError:
            return ()

    def _penalize(self, scores: FloatArray) -> FloatArray:
        params = self._params
        if params.repetition_penalty != 1:
            seen, penalty = scores[self._seen], params.repetition_penalty
            scores[self._seen] = np.where(seen < 0, seen * penalty, seen / penalty)
        if params.frequency_penalty != 0:
            scores -= np.float32(params.frequency_penalty) * self._counts
        if params.presence_penalty != 0:
            scores -= np.float32(params.presence_penalty) * (self._counts > 0)
        return scores

    def _draw(self, scores: FloatArray) -> int:
        tokens, probabilities = truncate(scores, self._params)
        point = self._random.random() * float(probabilities.sum())  # one draw per token, whatever was cut off
        index = int(np.searchsorted(np.cumsum(probabilities), point, side="right"))
        return int(tokens[min(index, len(tokens) - 1)])


def truncate(scores: FloatArray, params: SamplingParams) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Apply temperature, top-k, top-p and min-p.

    Args:
        scores: Logits after the penalties, ``[vocab_size]``.
        params: Sampling parameters, with a temperature above 0.

    Returns:
        The remaining tokens, best first, and their probabilities before renormalization.
    """
    kept = _top_k(scores, params.top_k)
    order = kept[np.argsort(-scores[kept], kind="stable")]
    ranked = scores[order].astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature overflows to -inf for all but the best, as it should
        probabilities = np.exp((ranked - ranked[0]) / params.temperature)
    probabilities /= probabilities.sum()
    count = len(order)
    if params.top_p < 1:
        # Keep the token that crosses the threshold, as the reference does.
        count = int(np.searchsorted(np.cumsum(probabilities), params.top_p, side="left")) + 1
    if params.min_p > 0:
        count = min(count, int(np.count_nonzero(probabilities >= params.min_p * probabilities[0])))
    return order[:count], probabilities[:count]


def score_token(logits: FloatArray, token: int, count: int) -> TokenScore:
    """Compute the log probability of ``token`` under ``logits [vocab_size]``, and the ``count`` top tokens."""
    row = logits.astype(np.float64)
    row -= row.max()
    row -= np.log(np.exp(row).sum())
    best = np.argpartition(-row, min(count, len(row) - 1))[:count] if count else np.zeros(0, np.int64)
    best = best[np.lexsort((best, -row[best]))]
    return TokenScore(token, float(row[token]), tuple((int(other), float(row[other])) for other in best))


def _top_k(scores: FloatArray, k: int) -> npt.NDArray[np.int64]:
    if k == 0 or k >= len(scores):
        return np.arange(len(scores))
    threshold = np.partition(scores, -k)[-k]
    return np.flatnonzero(scores >= threshold)
