"""Conversations with tools: calls are true and valid, and results follow them."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from tests.training.scenes import DOMAINS, drawn_with_tools
from training.scenes import Scene
from training.tool_definitions import ToolDefinition
from training.tool_questions import REPORT, response, result_of
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.structured.tool_check import check_tools
from vlrun.types.turn import ToolChoice


@pytest.mark.parametrize("domain", DOMAINS)
def test_calls_are_true(domain: str) -> None:
    """Guards the truth: one valid call of an offered tool, with values and attention targets from the image."""
    called = 0
    for seed in range(20):
        scene, toolset, asked = drawn_with_tools(domain, seed, 1 + seed % 3)
        tools = {tool.name: tool for tool in toolset.tools}
        for call in (turn for turns in asked for turn in turns if turn.task == "tool_call"):
            (found,) = find_tool_calls(call.answer, TOOL_CALLS)
            tool, arguments = tools[found.name], json.loads(found.arguments)
            jsonschema.validate(arguments, check_tools([tool.definition], ToolChoice())[found.name])
            assert arguments == truth(scene, tool, arguments)
            looked = [call.answer[target.start : target.end] for target in call.attention]
            values = [value for value in arguments.values() if value not in ("bottle", "can", "box", "bag", *SHAPES)]
            assert "".join(looked) == "".join(letters(value, scene) for value in values)
            called += 1
    assert called > 20


SHAPES = ("circle", "rectangle", "triangle")


def letters(value: object, scene: Scene) -> str:
    """The characters of the image that a value is read from; a price keeps its last digit."""
    return scene.text.removeprefix("$") if isinstance(value, float) else str(value)


def truth(scene: Scene, tool: ToolDefinition, given: dict[str, Any]) -> dict[str, Any]:
    """The true arguments of a tool, for the kind in the call if it takes one."""
    counts = Counter(item.kind for item in scene.items)
    values: dict[str, Any] = {}
    for argument in tool.arguments:
        if argument.meaning in ("price", "text"):
            number = argument.type == "number"
            values[argument.name] = float(scene.text.removeprefix("$")) if number else scene.text
        elif argument.meaning == "item":
            values[argument.name] = given[argument.name]
        else:
            named = given[tool.arguments[0].name] if argument.meaning == "count" else argument.meaning
            values[argument.name] = counts[named]
    return values


@pytest.mark.parametrize("domain", DOMAINS)
def test_questions_without_a_fitting_tool_are_answered_plainly(domain: str) -> None:
    """Guards ``auto``: an unrelated tool is never called, and requests to report occur only where a tool fits."""
    plain = called = 0
    for seed in range(30):
        _, toolset, asked = drawn_with_tools(domain, seed)
        own = {"shelf": ("counts", "count"), "shapes": ("counts", "count"), "tag": ("price",), "sign": ("text",)}
        fits = any(tool.subject in own[domain] for tool in toolset.tools)
        tasks = Counter(turn.task for turns in asked for turn in turns)
        called += fits and "tool_call" in tasks
        if not fits:
            assert "tool_call" not in tasks
            assert not any(turn.question.startswith(REPORT) for turns in asked for turn in turns)
            plain += 1
    assert plain
    assert called


def test_results_follow_calls() -> None:
    """Guards second turns: a result follows only a call, in the chat template's format, and the answer reports it."""
    results = 0
    for seed in range(40):
        scene, _, asked = drawn_with_tools(DOMAINS[seed % 4], seed)
        for turns in asked:
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
