"""Collects the output of a request; computes its timings."""

from __future__ import annotations

from collections.abc import Sequence

from vlrun.engine.request import RequestMetrics
from vlrun.engine.sampler import TokenScore
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.types.answer import Chunk, Timings, TokenLogprob


class OutputAccumulator:
    """Collects text, tokens and log probabilities of one answer.

    Args:
        token_bytes: The bytes of tokens.
        scores: The sampler's growing list of scores, one per token; empty if they were not requested.
    """

    def __init__(self, token_bytes: TokenBytes, scores: Sequence[TokenScore]) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self._token_bytes = token_bytes
        self._scores = scores
        self._streamed = 0  # number of log probabilities in earlier chunks

    def add_token(self, token: int) -> None:
        """Add a token and its log probabilities."""
        self.tokens.append(token)
        if self._scores:
            score = self._scores[len(self.tokens) - 1]
            top = tuple(self._logprob(*alternative) for alternative in score.top)
            self.logprobs.append(self._logprob(score.token, score.logprob, top))

    def chunk(self, text: str) -> Chunk:
        """Add text, and return it as a chunk with the log probabilities since the last chunk."""
        self.text += text
        start, self._streamed = self._streamed, len(self.logprobs)
        return Chunk(text, logprobs=tuple(self.logprobs[start:]))

    def _logprob(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        raw = self._token_bytes.raw(token)
        return TokenLogprob(raw.decode(errors="replace"), logprob, raw, top)


def timings(load_seconds: float, preprocess_seconds: float, metrics: RequestMetrics) -> Timings:
    """Compute the timings of an answer from the engine's timestamps."""
    admitted = metrics.admitted or metrics.submitted
    encoded = metrics.encoded or admitted
    first = metrics.first_token or encoded
    last = metrics.last_token or first
    return Timings(
        load=load_seconds,
        preprocess=preprocess_seconds,
        queue=admitted - metrics.submitted,
        vision=encoded - admitted,
        prefill=first - encoded,
        ttft=preprocess_seconds + first - metrics.submitted,
        tpot=(last - first) / (metrics.tokens - 1) if metrics.tokens > 1 else None,
        total=preprocess_seconds + last - metrics.submitted,
    )
