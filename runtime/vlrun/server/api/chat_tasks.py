"""The field ``vlrun`` of chat completion requests: tasks, votes, tiles, steps and heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from vlrun.errors import OptionError
from vlrun.media.region import parse_tiles
from vlrun.prompt.chat_template import SYSTEM_SEPARATOR
from vlrun.server.api.chat_schemas import ChatExtensions
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.tasks.definition import Task, TaskArguments, find_task
from vlrun.tasks.request import TaskRequest


def with_extensions(
    request: GenerationRequest, given: ChatExtensions | None, tasks: Mapping[str, Task], limits: ServerLimits
) -> GenerationRequest:
    """Add what the field asks for to a request. ``tasks``: those that can be named.

    Raises ApiError (400) for what contradicts itself, the task or the rest of the request.
    """
    if given is None:
        return request
    task = None if given.task is None else _find(given.task, tasks)
    if task is None and (given.items or given.fields):
        kind = "items" if given.items else "fields"
        raise bad_request(f"{kind} belong to a task: add vlrun.task", f"vlrun.{kind}")
    if task is not None or (given.votes or 1) > 1 or given.tiles is not None or given.steps:
        request = _with_task(request, given, task, limits)
    if given.heatmap:
        request = replace(request, options=replace(request.options, heatmap=True))
        _check_heat_map(request, limits)
    return request


def _with_task(
    request: GenerationRequest, given: ChatExtensions, task: Task | None, limits: ServerLimits
) -> GenerationRequest:
    *first, last = request.messages
    if last.role != "user" or any(message.role != "system" for message in first):
        message = "a task, votes, tiles and steps take one message of the user, after those of the system"
        raise bad_request(message, "messages")
    with _naming("vlrun.tiles"):  # which a task may forbid
        asked = TaskRequest(
            question="\n".join(_texts([last])) or None,
            task=task,
            arguments=_arguments(given, task),
            tiles=None if given.tiles is None else parse_tiles(given.tiles),
            votes=given.votes or 1,
            steps=given.steps is True,
            system=SYSTEM_SEPARATOR.join(_texts(first)) or None,
            language=given.language,
        )
    _check_rest(request, asked, given, limits)
    details = {image.detail for image in request.images}
    if len(details) > 1:
        raise bad_request("the images of a task need the same detail", "messages")
    options = replace(request.options, detail=details.pop()) if details else request.options
    with _naming("stop"):
        asked.options(options)
    return replace(request, options=options, task=asked)


def _find(name: str, tasks: Mapping[str, Task]) -> Task:
    with _naming("vlrun.task"):
        return find_task(name, tasks)


def _texts(messages: Sequence[RequestMessage]) -> list[str]:
    return [part for message in messages for part in message.parts if isinstance(part, str) and part.strip()]


def _arguments(given: ChatExtensions, task: Task | None) -> TaskArguments:
    names = {}
    for kind in ("items", "fields"):
        found = tuple(dict.fromkeys(name.strip() for name in getattr(given, kind) or ()))
        requirement = "none" if task is None else getattr(task, kind)
        if not all(found):
            raise bad_request(f"vlrun.{kind} has an empty name", f"vlrun.{kind}")
        if requirement == "required" and not found:
            message = f"vlrun.{kind} is missing: the task needs {kind}"
            raise bad_request(message, f"vlrun.{kind}", "missing_required_parameter")
        if requirement == "none" and found:
            raise bad_request(f"the task takes no {kind}", f"vlrun.{kind}")
        names[kind] = found
    return TaskArguments(**names)


def _check_rest(request: GenerationRequest, asked: TaskRequest, given: ChatExtensions, limits: ServerLimits) -> None:
    """Raise ApiError (400) for what cannot be together with the task."""
    options, several = request.options, not asked.is_single
    structured = asked.task is not None and asked.task.schema is not None
    minimum = asked.task.images if asked.task is not None else 0
    refusals = (
        (request.n > 1, "n", "a task has one answer: leave out n, or use vlrun.votes"),
        (bool(request.tools), "tools", "a task calls no tools: leave them out"),
        (
            structured and options.schema is not None,
            "response_format",
            "the task has a schema of its own: leave out response_format",
        ),
        (several and given.heatmap, "vlrun.heatmap", "a heat map needs one answer: leave out votes, tiles and steps"),
        (
            several and options.logprobs is not None,
            "logprobs",
            "logprobs need one answer: leave out votes, tiles and steps",
        ),
        (
            asked.votes > 1 and options.temperature == 0,
            "temperature",
            "with temperature 0 all votes are the same: leave it out, or vlrun.votes",
        ),
        (
            asked.tiles is not None and len(request.images) != 1,
            "vlrun.tiles",
            f"tiles need exactly one image, not {len(request.images)}",
        ),
        (
            len(request.images) < minimum,
            "messages",
            f"the task needs at least {minimum} image{'s' * (minimum > 1)}, not {len(request.images)}",
        ),
        (
            asked.answer_count > limits.max_task_answers,
            "vlrun.tiles" if asked.tiles else "vlrun.votes",
            f"tiles, votes and steps make {asked.answer_count} answers; the limit is {limits.max_task_answers}",
        ),
    )
    for refused, param, message in refusals:
        if refused:
            raise bad_request(message, param)


def _check_heat_map(request: GenerationRequest, limits: ServerLimits) -> None:
    """Raise ApiError (400) if a request for a heat map has no image, several answers, or too long an answer."""
    if not request.images:
        raise bad_request("a heat map needs an image: there is none in the messages", "vlrun.heatmap")
    if request.n > 1:
        raise bad_request("a heat map needs one answer: leave out n", "n")
    if (request.effective_options.max_tokens or 0) > limits.heatmap_tokens:
        message = f"an answer with a heat map has at most {limits.heatmap_tokens} tokens: lower max_tokens"
        raise bad_request(message, "max_tokens")


@contextmanager
def _naming(param: str) -> Iterator[None]:
    """Turn an OptionError of the block into an ApiError (400) for a field."""
    try:
        yield
    except OptionError as error:
        raise bad_request(error.message, param) from None
