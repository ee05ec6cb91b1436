"""Conversations with tools: calls and reported results are correct."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from tests.training.scenes import DOMAINS, draw_with_tools
from training.scenes import Scene
from training.tool_definitions import ToolDefinition
from training.tool_questions import REPORT, response, result_of
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.structured.tool_check import check_tools
from vlrun.types.turn import ToolChoice


@pytest.mark.parametrize("domain", DOMAINS)
def test_calls_are_valid_and_correct(domain: str) -> None:
    """Values and attention targets come from the image."""
    called = 0
    for seed in range(20):
        scene, toolset, conversations = draw_with_tools(domain, seed, 1 + seed % 3)
        tools = {tool.name: tool for tool in toolset.tools}
        for call in (turn for turns in conversations for turn in turns if turn.task == "tool_call"):
            (found,) = find_tool_calls(call.answer, TOOL_CALLS)
            tool, arguments = tools[found.name], json.loads(found.arguments)
            jsonschema.validate(arguments, check_tools([tool.definition], ToolChoice())[found.name])
            assert arguments == expected_arguments(scene, tool, arguments)
            supervised = [call.answer[target.start : target.end] for target in call.attention]
            values = [value for value in arguments.values() if value not in ("bottle", "can", "box", "bag", *SHAPES)]
            assert "".join(supervised) == "".join(characters_read(value, scene) for value in values)
            called += 1
    assert called > 20


SHAPES = ("circle", "rectangle", "triangle")


def characters_read(value: object, scene: Scene) -> str:
    """Return the characters of the image that a value is read from; a price keeps its last digit."""
    return scene.text.removeprefix("$") if isinstance(value, float) else str(value)


def expected_arguments(scene: Scene, tool: ToolDefinition, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the correct arguments, for the kind in the call if the tool takes one."""
    counts = Counter(item.kind for item in scene.items)
    values: dict[str, Any] = {}
    for argument in tool.arguments:
        if argument.meaning in ("price", "text"):
            number = argument.type == "number"
            values[argument.name] = float(scene.text.removeprefix("$")) if number else scene.text
        elif argument.meaning == "item":
            values[argument.name] = arguments[argument.name]
        else:
            named = arguments[tool.arguments[0].name] if argument.meaning == "count" else argument.meaning
            values[argument.name] = counts[named]
    return values


@pytest.mark.parametrize("domain", DOMAINS)
def test_unrelated_tools_are_never_called(domain: str) -> None:
    """Requests to report occur only where a tool fits."""
    unrelated = called = 0
    for seed in range(30):
        _, toolset, conversations = draw_with_tools(domain, seed)
        fitting = {"shelf": ("counts", "count"), "shapes": ("counts", "count"), "tag": ("price",), "sign": ("text",)}
        fits = any(tool.subject in fitting[domain] for tool in toolset.tools)
        tasks = Counter(turn.task for turns in conversations for turn in turns)
        called += fits and "tool_call" in tasks
        if not fits:
            assert "tool_call" not in tasks
            assert not any(turn.question.startswith(REPORT) for turns in conversations for turn in turns)
            unrelated += 1
    assert unrelated
    assert called


def test_results_follow_calls_and_answers_report_them() -> None:
    results = 0
    for seed in range(40):
        scene, _, conversations = draw_with_tools(DOMAINS[seed % 4], seed)
        for turns in conversations:
            for before, turn in pairwise(turns):
                if turn.task == "tool_result":
                    assert before.task == "tool_call"
                    assert result_of(turn.question)
                    assert turn.language == before.language
                    numbers = re.findall(r"\d+", turn.answer)
                    if numbers and scene.items:
                        assert set(numbers) <= set(re.findall(r"\d+", before.answer))
                    results += 1
    assert results > 20
    assert result_of("Count the cans.") is None
    assert result_of(response("ok")) == "ok"
