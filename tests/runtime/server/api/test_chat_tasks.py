"""Parsing the field ``vlrun`` of chat completion requests, and the error for each contradiction."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import TOOL, image, request, text, user
from vlrun.media.region import Region, Tiles
from vlrun.server.api import chat
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import GenerationRequest
from vlrun.server.limits import ServerLimits
from vlrun.tasks.definition import Task, TaskArguments, find_task
from vlrun.tasks.request import TaskRequest

LIMITS = ServerLimits()
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
COUNT, LOCATE = {"task": "count"}, {"task": "locate", "items": ["can"]}


def read(*messages: object, tasks: dict[str, Task] | None = None, **more: object) -> GenerationRequest:
    return chat.parse(request(*(messages or (user(image(), text("hi")),)), **more), ["vlrun-tiny"], LIMITS, tasks)


def test_all_of_a_task_is_used() -> None:
    """Dropping a part silently would be worse than refusing it."""
    system = {"role": "system", "content": "Be brief."}
    given = {"task": "locate", "items": [" can", "bag", "can"], "votes": 3, "tiles": "1x2", "steps": True}
    parsed = read(
        system,
        {**system, "role": "developer"},
        user(text("a"), image(detail="high"), "b"),
        vlrun={**given, "language": "zh"},
    )
    assert parsed.task == TaskRequest(
        "a\nb",
        find_task("locate"),
        TaskArguments(items=("can", "bag")),
        Tiles(1, 2),
        3,
        True,
        "Be brief.\n\nBe brief.",
        "zh",
    )
    assert parsed.options.detail == "high"
    assert (parsed.parallel, parsed.effective_options.max_tokens) == (6, 4096)


@pytest.mark.parametrize(
    "given", [{}, {"votes": 1}, {"steps": False}, {"language": "zh"}, {"items": []}, {"votes": None}]
)
def test_what_asks_for_nothing_else_is_a_plain_question(given: dict[str, object]) -> None:
    assert read(vlrun=given) == read()


def test_a_heat_map_alone_is_no_task() -> None:
    parsed = read(vlrun={"heatmap": True})
    assert (parsed.options.heatmap, parsed.task) == (True, None)


def test_a_task_of_the_service_is_found() -> None:
    """``vlrun serve --tasks`` adds tasks."""
    mine = Task(about="mine", prompt={"en": "What?"})
    found = read(vlrun={"task": "mine"}, tasks={"mine": mine}).task
    assert found == TaskRequest("hi", mine)


def test_images_have_their_region() -> None:
    parsed = read(user(image(region="1,2,3,4", enhance=True), image(region="0,0,500,500/1000")))
    first, second = parsed.images
    assert (first.region, first.enhance) == (Region(1, 2, 3, 4), True)
    assert (second.region, second.enhance) == (Region(0, 0, 500, 500, thousandths=True), False)


CHAT = [user("hi"), {"role": "assistant", "content": "ho"}, user(image(), text("hi"))]
TOO_MANY = f"make 48 answers; the limit is {LIMITS.max_task_answers}"
REFUSED: list[tuple[list[Any], dict[str, Any], str, str]] = [
    ([], {"vlrun": {"task": "nothing"}}, "vlrun.task", "there is no task 'nothing'; the tasks are describe, count"),
    ([], {"vlrun": {"items": ["a"]}}, "vlrun.items", "items belong to a task"),
    ([], {"vlrun": {"fields": ["a"], "votes": 2}}, "vlrun.fields", "fields belong to a task"),
    ([], {"vlrun": {"task": "locate"}}, "vlrun.items", "vlrun.items is missing: the task needs items"),
    ([], {"vlrun": {"task": "fields", "fields": []}}, "vlrun.fields", "the task needs fields"),
    ([], {"vlrun": {**COUNT, "fields": ["a"]}}, "vlrun.fields", "the task takes no fields"),
    ([], {"vlrun": {**COUNT, "items": ["a", " "]}}, "vlrun.items", "has an empty name"),
    ([], {"vlrun": {"votes": 17}}, "vlrun.votes", "at most 16"),
    ([], {"vlrun": {"votes": 0}}, "vlrun.votes", "at least 1"),
    ([], {"vlrun": {"tiles": "9x9"}}, "vlrun.tiles", "'9x9' is not a grid of tiles"),
    ([], {"vlrun": {"task": "table", "tiles": "1x2"}}, "vlrun.tiles", "cannot be merged"),
    ([user("hi")], {"vlrun": {"tiles": "1x2"}}, "vlrun.tiles", "tiles need exactly one image, not 0"),
    ([user(image(), image())], {"vlrun": {"tiles": "1x2"}}, "vlrun.tiles", "exactly one image, not 2"),
    ([], {"vlrun": {"task": "compare"}}, "messages", "at least 2 images, not 1"),
    ([user("hi")], {"vlrun": COUNT}, "messages", "at least 1 image, not 0"),
    ([user(image(), image(detail="low"))], {"vlrun": {"task": "compare"}}, "messages", "the same detail"),
    (CHAT, {"vlrun": COUNT}, "messages", "one message of the user"),
    (CHAT[:2], {"vlrun": {"votes": 2}}, "messages", "one message of the user"),
    ([], {"vlrun": {"votes": 16, "tiles": "1x3"}}, "vlrun.tiles", TOO_MANY),
    ([], {"vlrun": {"votes": 2, "tiles": "3x3", "steps": True}}, "vlrun.tiles", "make 36 answers"),
    ([], {"vlrun": {"votes": 2}, "temperature": 0}, "temperature", "all votes are the same"),
    ([], {"vlrun": {"votes": 2}, "n": 2}, "n", "leave out n, or use vlrun.votes"),
    ([], {"vlrun": COUNT, "n": 2}, "n", "leave out n"),
    ([], {"vlrun": COUNT, "tools": [TOOL]}, "tools", "a task calls no tools"),
    ([], {"vlrun": COUNT, "response_format": SCHEMA}, "response_format", "a schema of its own"),
    ([], {"vlrun": LOCATE, "response_format": {"type": "json_object"}}, "response_format", "a schema of its own"),
    ([], {"vlrun": COUNT, "stop": "x"}, "stop", "stop strings would cut the JSON"),
    ([], {"vlrun": {"votes": 2}, "logprobs": True}, "logprobs", "need one answer"),
    ([], {"vlrun": {"steps": True, "heatmap": True}}, "vlrun.heatmap", "a heat map needs one answer"),
    ([], {"vlrun": {"heatmap": True}, "n": 2}, "n", "a heat map needs one answer"),
    ([user("hi")], {"vlrun": {"heatmap": True}}, "vlrun.heatmap", "a heat map needs an image"),
    ([], {"vlrun": {"heatmap": True}, "max_tokens": 8193}, "max_tokens", "has at most 8192 tokens"),
    ([], {"vlrun": {"language": "fr"}}, "vlrun.language", "must be one of en, zh"),
    ([], {"vlrun": {"tasks": "x"}}, "vlrun.tasks", "is unknown"),
    ([], {"vlrun": {**COUNT, "items": ["a"] * 101}}, "vlrun.items", "at most 100 elements"),
    ([], {"vlrun": {**COUNT, "items": ["a" * 101]}}, "vlrun.items[0]", "at most 100 characters"),
]


@pytest.mark.parametrize(("messages", "more", "param", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_contradictions_are_refused_by_name(
    messages: list[Any], more: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        read(*messages, **more)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert "--" not in caught.value.message  # options of the command


def test_a_schema_goes_with_a_task_without_one() -> None:
    """Free text becomes JSON."""
    parsed = read(vlrun={"task": "ocr"}, response_format=SCHEMA)
    assert parsed.effective_options.schema == {"type": "object"}
