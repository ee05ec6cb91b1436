"""What an answer has said so far, and how long it took.

Knows tokens, their likelihoods and moments; does not know where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlrun.engine.request import RequestMetrics
from vlrun.engine.sampler import TokenScore
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.types.answer import Chunk, Timings, TokenLogprob


class OutputAccumulator:
    """The text and tokens so far. ``likely``: how likely each token was, filled before it comes, or empty."""

    def __init__(self, spelling: TokenBytes, likely: Sequence[TokenScore]) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self._spelling = spelling
        self._likely = likely
        self._told = 0

    def take(self, token: int) -> None:
        """The next token."""
        self.tokens.append(token)
        if self._likely:
            likely = self._likely[len(self.tokens) - 1]
            top = tuple(self._spelled(*other) for other in likely.top)
            self.logprobs.append(self._spelled(likely.token, likely.logprob, top))

    def chunk(self, piece: str) -> Chunk:
        """The next piece of the text, with what is known of its tokens."""
        self.text += piece
        since, self._told = self._told, len(self.logprobs)
        return Chunk(piece, logprobs=tuple(self.logprobs[since:]))

    def _spelled(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        raw = self._spelling.raw(token)
        return TokenLogprob(raw.decode(errors="replace"), logprob, raw, top)


def timings(load_seconds: float, preprocess: float, metrics: RequestMetrics) -> Timings:
    """How long an answer took, by the engine's moments; loading and preprocessing are given in seconds."""
    begun = metrics.admitted or metrics.submitted
    seen = metrics.encoded or begun
    first = metrics.first_token or seen
    last = metrics.last_token or first
    return Timings(
        load=load_seconds,
        preprocess=preprocess,
        queue=begun - metrics.submitted,
        vision=seen - begun,
        prefill=first - seen,
        ttft=preprocess + first - metrics.submitted,
        tpot=(last - first) / (metrics.tokens - 1) if metrics.tokens > 1 else None,
        total=preprocess + last - metrics.submitted,
    )
