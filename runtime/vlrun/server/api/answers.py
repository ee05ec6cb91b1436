"""Parts of answers that several endpoints share. All answers are documented in assets/openapi.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeAlias

from vlrun.models.family import ToolCallFormat
from vlrun.prompt.tool_calls import ToolCallParser
from vlrun.types.answer import Answer, Progress, TokenLogprob
from vlrun.types.turn import ToolCall

Json: TypeAlias = dict[str, Any]


def timings(answers: Sequence[Answer]) -> Json:
    """Timings of the slowest answer, without the time that it took to load the model."""
    slowest = asdict(max((answer.timings for answer in answers), key=lambda times: times.total))
    return {name: seconds for name, seconds in slowest.items() if name != "load"}


def extension(answer: Answer) -> Json:
    """The field ``vlrun`` of a complete answer, if there is anything to tell that OpenAI's fields cannot."""
    reason = {"finish_reason": "repetition"} if answer.finish_reason == "repetition" else {}
    notes = {"notes": answer.notes} if answer.notes else {}
    return {"vlrun": {**reason, **notes}} if reason or notes else {}


def progress(progress: Progress) -> Json:
    """The field ``vlrun`` before the first token."""
    percent = 100 * progress.done // max(progress.total, 1)
    return {"vlrun": {"progress": {**asdict(progress), "percent": percent}}}


def finish_reason(answer: Answer) -> str:
    """OpenAI's finish reason of an answer without calls; ``length`` also for a loop."""
    return "stop" if answer.finish_reason == "stop" else "length"


def chat_usage(answers: Sequence[Answer]) -> Json:
    """Tokens of a request's answers. Cached tokens are those of the prompt that every answer found in the cache."""
    usages = [answer.usage for answer in answers]
    prompt, completion = usages[0].prompt_tokens, sum(usage.completion_tokens for usage in usages)
    cached = min(usage.cached_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "image_tokens": usages[0].image_tokens},
        "completion_tokens_details": {"reasoning_tokens": sum(usage.reasoning_tokens for usage in usages)},
    }


def logprobs(tokens: Sequence[TokenLogprob]) -> list[Json]:
    """Log probabilities with their alternatives."""
    return [{**_logprob(token), "top_logprobs": [_logprob(top) for top in token.top]} for token in tokens]


def _logprob(token: TokenLogprob) -> Json:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class OutputSplitter:
    """Splits an answer into text and tool calls as it comes. Without ``tool_calls``, everything is text."""

    def __init__(self, tool_calls: ToolCallFormat | None) -> None:
        self._parser = ToolCallParser(tool_calls) if tool_calls else None

    def push(self, text: str, last: bool) -> list[str | ToolCall]:
        """The pieces that are complete after ``text``; all of them if it is the last one."""
        if self._parser is None:
            return [text] if text else []
        pieces = self._parser.push(text) + (self._parser.flush() if last else [])
        return [piece for piece in pieces if piece]


def split_output(text: str, tool_calls: ToolCallFormat | None) -> tuple[str | None, list[ToolCall]]:
    """The text of a whole answer (None if it consists of calls) and its tool calls."""
    pieces = OutputSplitter(tool_calls).push(text, last=True)
    calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    return (content if content or not calls else None), calls
