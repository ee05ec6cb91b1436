"""Collects the output of a request; computes its timings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from vlrun.engine.request import RequestMetrics
from vlrun.engine.sampler import TokenScore
from vlrun.prompt.detokenizer import Detokenizer, StopStrings
from vlrun.prompt.reasoning import ReasoningSplitter
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.types.answer import Chunk, Progress, Timings, TokenLogprob


class OutputAccumulator:
    """Collects text, reasoning, tokens and log probabilities of one answer.

    Args:
        tokenizer: The model's tokenizer.
        stops: The stop strings, which end the answer and not the reasoning.
        reasoning: Separates the reasoning.
        token_bytes: The bytes of tokens.
        scores: The sampler's growing list of scores, one per token; empty if they were not requested.

    Attributes:
        text: The answer.
        reasoning: The reasoning before it.
        tokens: The ids of both.
        answer_start: Number of tokens before the answer.
        logprobs: The log probabilities of the answer's tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        reasoning: ReasoningSplitter,
        token_bytes: TokenBytes,
        scores: Sequence[TokenScore],
    ) -> None:
        self.text = ""
        self.reasoning = ""
        self.tokens: list[int] = []
        self.answer_start = 0
        self.logprobs: list[TokenLogprob] = []
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(stops)
        self._splitter = reasoning
        self._token_bytes = token_bytes
        self._scores = scores
        self._streamed = 0  # number of log probabilities in earlier chunks

    def token_texts(self) -> list[str]:
        """Return the text that each token of the answer completes."""
        detokenizer = Detokenizer(self._tokenizer)
        return [detokenizer.push(token) for token in self.tokens[self.answer_start :]]

    @property
    def stop(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.found

    @property
    def opening(self) -> str:
        """All text before the answer: the reasoning with its control tokens."""
        return self._splitter.opening

    @property
    def reasoning_tokens(self) -> int:
        """Number of tokens of the reasoning."""
        return self._splitter.tokens

    def chunks(self, items: Iterable[int | Progress], eos: Sequence[int], progress: bool) -> Iterator[Chunk]:
        """Yield the chunks of generated tokens, and with ``progress`` that before them, until a stop string."""
        for item in items:
            if isinstance(item, Progress):
                if progress:
                    yield Chunk("", progress=item)
            elif item not in eos:
                if chunk := self.push(item):
                    yield chunk
                if self.stop:
                    return

    def push(self, token: int) -> Chunk | None:
        """Add a token. Return a chunk if it completes text."""
        was_reasoning = self._splitter.active
        reasoning, text = self._splitter.push(token, self._detokenizer.push(token))
        self.tokens.append(token)
        if was_reasoning or self._splitter.active:
            self.answer_start = len(self.tokens)
        elif self._scores:
            score = self._scores[len(self.tokens) - 1]
            top = tuple(self._logprob(*alternative) for alternative in score.top)
            self.logprobs.append(self._logprob(score.token, score.logprob, top))
        text = self._stops.push(text)
        return self._chunk(text, reasoning) if text or reasoning else None

    def finish(self) -> Chunk:
        """Return the rest of the text at the end of the output."""
        reasoning, text = self._splitter.text(self._detokenizer.flush())
        return self._chunk(self._stops.push(text) + self._stops.flush(), reasoning)

    def _chunk(self, text: str, reasoning: str) -> Chunk:
        self.text += text
        self.reasoning += reasoning
        start, self._streamed = self._streamed, len(self.logprobs)
        return Chunk(text, logprobs=tuple(self.logprobs[start:]), reasoning=reasoning)

    def _logprob(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        raw = self._token_bytes.raw(token)
        return TokenLogprob(raw.decode(errors="replace"), logprob, raw, top)


def timings(load_seconds: float, preprocess_seconds: float, schema_seconds: float, metrics: RequestMetrics) -> Timings:
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
        schema=schema_seconds,
    )
