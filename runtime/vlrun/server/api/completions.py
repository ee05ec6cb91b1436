"""``POST /v1/completions``: OpenAI's former endpoint, which continues a text as it is, without chat template."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from vlrun.server.api import fields, schemas, strict_json
from vlrun.server.api.answers import Json, chat_usage, extension, finish_reason, timings
from vlrun.server.api.parsing import RequestParser, check_model, option_errors, sampling
from vlrun.server.api.validation import convert, not_supported
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, RequestMessage, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import DONE, event
from vlrun.types.answer import Answer, TokenLogprob
from vlrun.types.options import Options

Prompt = Annotated[schemas.Text, Meta(min_length=1)]


class CompletionRequest(schemas.SampledRequest, kw_only=True):
    """Texts to be continued. Null means the same as leaving a field out: the model's default applies. Without ``model``
    the served one answers.

    The name of a control token in ``prompt`` is that token, so that clients can write the chat template themselves.
    ``echo`` repeats the prompt before its continuation; ``best_of`` can only equal ``n``.
    """

    unused = fields.COMPLETIONS
    prompt: Prompt | Annotated[list[Prompt], Meta(min_length=1, max_length=schemas.LIMITS.max_n)]
    best_of: int | None = None
    logprobs: schemas.TopLogprobs | None = None
    echo: bool | None = None


def parse(value: object, names: Sequence[str], limits: ServerLimits) -> tuple[GenerationRequest, bool]:
    """Parse the JSON of a request; also return whether the prompts are repeated. ``names``: the names of the model.

    Raises ApiError: 404 for another model, 400 for everything else, with the field.
    """
    body = convert(value, CompletionRequest)
    check_model(body.model, names)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    n, parser = body.n or 1, RequestParser(limits)
    if len(prompts) * n > limits.max_n:
        raise bad_request(f"{len(prompts)} prompts and n {n} are more than {limits.max_n} answers", "prompt")
    if body.best_of not in (None, n):
        raise not_supported("best_of")
    if body.echo and body.logprobs is not None:
        raise bad_request("echo with logprobs is not supported by this service", "echo", "unsupported_parameter")
    with option_errors({}):
        options = Options(max_tokens=body.max_tokens, logprobs=body.logprobs, **sampling(body))
    request = GenerationRequest(
        messages=tuple(RequestMessage("user", (parser.text(prompt, "prompt"),)) for prompt in prompts),
        options=options,
        n=len(prompts) * n,
        raw=True,
        stream=body.stream is True,
        include_usage=(body.stream_options or schemas.StreamOptions()).include_usage is True,
    )
    return request, body.echo is True


class CompletionAdapter(ResponseAdapter):
    """Formats the answers of one request. ``echo``: the prompts come before their continuations."""

    renamed_params: ClassVar[Mapping[str, str]] = {"messages": "prompt"}

    def __init__(self, request: GenerationRequest, model: str, echo: bool) -> None:
        super().__init__(request)
        self._head = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._each = request.n // len(request.messages)
        prompts = [str(message.parts[0]) for message in request.messages for _ in range(self._each)]
        self._beginnings = prompts if echo else [""] * request.n
        self._offsets = [0] * request.n
        self._logprobs: list[list[TokenLogprob]] = [[] for _ in prompts]

    @classmethod
    def read(cls, body: bytes, names: Sequence[str], limits: ServerLimits) -> CompletionAdapter:
        """The adapter for a request's body. Raises ApiError."""
        request, echo = parse(strict_json.parse(body, limits), names, limits)
        return cls(request, names[0], echo)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """A completion with all its choices."""
        choices = [
            self._choice(index, self._beginnings[index] + answer.text, answer.logprobs, answer)
            for index, answer in enumerate(answers)
        ]
        return msgspec.json.encode(
            self._completion(choices) | {"usage": self._usage(answers), "timings": timings(answers)}
        )

    def begin(self) -> list[bytes]:
        """The prompts, if they are repeated."""
        return [self._chunk([self._choice(index, text, ())]) for index, text in enumerate(self._beginnings) if text]

    def events(self, chunk: AnswerChunk) -> list[bytes]:
        """The last chunk of an answer also has its finish reason."""
        index, piece, pending = chunk.index, chunk.chunk, self._logprobs[chunk.index]
        pending.extend(piece.logprobs)
        if not piece.text and piece.answer is None:
            return []
        choice = self._choice(index, piece.text, tuple(pending), piece.answer)
        pending.clear()
        return [self._chunk([choice])]

    def end(self, answers: Sequence[Answer]) -> list[bytes]:
        """The usage, if it was asked for, and OpenAI's end mark."""
        return [self._chunk([], usage=self._usage(answers)), DONE] if self.request.include_usage else [DONE]

    def failed(self, error: ApiError) -> list[bytes]:
        """The error in place of a chunk."""
        return [event(error.body())]

    def _choice(self, index: int, text: str, tokens: Sequence[TokenLogprob], answer: Answer | None = None) -> Json:
        reason = finish_reason(answer) if answer else None
        more = extension(answer) if answer else {}
        return {"index": index, "text": text, "logprobs": self._scores(index, tokens), "finish_reason": reason, **more}

    def _scores(self, index: int, tokens: Sequence[TokenLogprob]) -> Json | None:
        """OpenAI's former format of log probabilities. Offsets are those of the tokens in the text."""
        if self.request.options.logprobs is None:
            return None
        offsets = list(itertools.accumulate((len(token.token) for token in tokens), initial=self._offsets[index]))
        self._offsets[index] = offsets.pop()
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{top.token: top.logprob for top in (token, *token.top)} for token in tokens],
            "text_offset": offsets,
        }

    def _completion(self, choices: Sequence[Json]) -> Json:
        return {**self._head, "object": "text_completion", "choices": choices}

    def _chunk(self, choices: Sequence[Json], usage: Json | None = None) -> bytes:
        """With ``include_usage`` every chunk has a usage, null but for the last one."""
        more = {"usage": usage} if self.request.include_usage else {}
        return event(msgspec.json.encode(self._completion(choices) | more))

    def _usage(self, answers: Sequence[Answer]) -> Json:
        """The sums over the prompts, each with its own answers."""
        starts = range(0, len(answers), self._each)
        return _sum([chat_usage(answers[start : start + self._each]) for start in starts])


def _sum(usages: Sequence[Json]) -> Json:
    first, *_ = usages
    return {
        name: _sum([usage[name] for usage in usages]) if isinstance(first[name], dict) else sum(u[name] for u in usages)
        for name in first
    }
