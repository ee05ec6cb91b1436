"""Tools and the conversations in which they are called: the calls are true, valid, and packed as the runtime asks."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer

from training import vocabulary
from training.batches import PREFIX, Packer
from training.calling import REPORT, conversations, response, result_of, toolbox_for
from training.inquiries import Turns
from training.scenes import Scene, draw_scene
from training.scores import score_answer
from training.toolbox import DrawnTool, Toolbox
from training.vocabulary import CHAT_TEMPLATE, train_tokenizer
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.structured.tool_check import check_tools
from vlrun.types.turn import ToolChoice
from vlrun.vision.grid import Grid

DOMAINS = ("shelf", "shapes", "tag", "sign")
SIZE = (256, 192)
CALL = '<tool_call>\n{"name": "report", "arguments": {"price": 9.40}}\n</tool_call>'


def drawn(domain: str, seed: int, tools: int = 1) -> tuple[Scene, Toolbox, list[Turns]]:
    """A scene, tools, and what is asked of both."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(domain, SIZE, rng)
    box = toolbox_for(scene, tools, rng)
    return scene, box, list(islice(conversations(scene, box, rng), 8))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("tools", [1, 2, 3])
def test_tools_are_those_that_the_runtime_takes(domain: str, tools: int) -> None:
    """Guards training on what no client may send: a tool of another form, two of one name, a schema that is none."""
    sizes = Counter()  # type: Counter[int]
    for seed in range(15):
        _, box, _ = drawn(domain, seed, tools)
        parameters = check_tools(box.described, ToolChoice())
        sizes[len(parameters)] += 1
        for tool in box.tools:
            jsonschema.Draft202012Validator.check_schema(parameters[tool.name])
            assert list(properties(parameters[tool.name])) == [argument.name for argument in tool.arguments]
    assert max(sizes) == tools


@pytest.mark.parametrize("domain", DOMAINS)
def test_calls_are_true(domain: str) -> None:
    """Guards the truth: one call of a tool that is there, valid, with what is in the image and looks at just that."""
    called = 0
    for seed in range(20):
        scene, box, asked = drawn(domain, seed, 1 + seed % 3)
        tools = {tool.name: tool for tool in box.tools}
        for call in (turn for turns in asked for turn in turns if turn.task == "tool_call"):
            (found,) = find_tool_calls(call.answer, TOOL_CALLS)
            tool, arguments = tools[found.name], json.loads(found.arguments)
            jsonschema.validate(arguments, check_tools([tool.described], ToolChoice())[found.name])
            assert arguments == truth(scene, tool, arguments)
            looked = [call.answer[look.start : look.end] for look in call.looks]
            values = [value for value in arguments.values() if value not in ("bottle", "can", "box", "bag", *SHAPES)]
            assert "".join(looked) == "".join(letters(value, scene) for value in values)
            called += 1
    assert called > 20


SHAPES = ("circle", "rectangle", "triangle")


def letters(value: object, scene: Scene) -> str:
    """What of the image a value is read from: a price keeps its last digit."""
    return scene.text.removeprefix("$") if isinstance(value, float) else str(value)


def truth(scene: Scene, tool: DrawnTool, given: dict[str, Any]) -> dict[str, Any]:
    """What a tool is to be told, of the kind that was given if it takes one."""
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


def properties(parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = parameters["properties"]
    return found


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_no_tool_is_for_is_answered_plainly(domain: str) -> None:
    """Guards ``auto``: a tool for something else is never called, and requests to report only where one fits."""
    plain = called = 0
    for seed in range(30):
        _, box, asked = drawn(domain, seed)
        own = {"shelf": ("counts", "count"), "shapes": ("counts", "count"), "tag": ("price",), "sign": ("text",)}
        fits = any(tool.subject in own[domain] for tool in box.tools)
        tasks = Counter(turn.task for turns in asked for turn in turns)
        called += fits and "tool_call" in tasks
        if not fits:
            assert "tool_call" not in tasks
            assert not any(turn.question.startswith(REPORT) for turns in asked for turn in turns)
            plain += 1
    assert plain
    assert called


def test_results_follow_calls() -> None:
    """Guards second turns: a result only behind a call, told as the chat template tells it, and said in words."""
    told = 0
    for seed in range(40):
        scene, _, asked = drawn(DOMAINS[seed % 4], seed)
        for turns in asked:
            for before, turn in pairwise(turns):
                if turn.task == "tool_result":
                    assert before.task == "tool_call"
                    assert result_of(turn.question)
                    assert turn.language == before.language
                    numbers = re.findall(r"\d+", turn.answer)
                    if numbers and scene.items:
                        assert set(numbers) <= set(re.findall(r"\d+", before.answer))
                    told += 1
    assert told > 20
    assert result_of("Count the cans.") is None
    assert result_of(response("ok")) == "ok"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "CORPUS_SCENES", 10)
        return train_tokenizer([])


@pytest.mark.parametrize("system", [None, "Be short."])
def test_rows_are_the_runtime_s_prompts(tokenizer: Tokenizer, system: str | None) -> None:
    """Guards the bytes: tools, image, call and result stand in a row token for token as a client's turns are told."""
    image, grid = tokenizer.token_to_id("<|image_pad|>"), Grid(4, 6, 2)
    packer, template = Packer(tokenizer), ChatTemplate(CHAT_TEMPLATE, tokenizer, image)
    _, box, asked = next(one for one in (drawn("shelf", seed, 2) for seed in range(99)) if longest(one[2]))
    box, turns = replace(box, system=system), longest(asked)
    shown = replace(packer.show(grid, 1, box), gap=7)
    row = packer.pack([(turns, True)], grid, 400, shown)
    (call,) = find_tool_calls(turns[0].answer, TOOL_CALLS)
    said = [
        *([Message("system", (system,))] if system else []),
        Message("user", (ImagePlaceholder(), turns[0].question)),
        Message("assistant", (), (call,)),
        Message("tool", (str(result_of(turns[1].question)),)),
        Message("assistant", (turns[1].answer,)),
        Message("user", (turns[2].question,)),
    ]
    expected = template.encode(said, [grid.tokens], box.described)
    ids, groups = row.ids, row.groups
    there = np.flatnonzero((groups == PREFIX) | (groups == PREFIX + 1))
    assert ids[there[: len(expected.ids)]].tolist() == list(expected.ids)
    assert row.positions[0, there].tolist() == sorted(row.positions[0, there].tolist())
    assert row.starts == (expected.image_offsets[0] + 7,)


def longest(asked: list[Turns]) -> Turns:
    """A conversation with a call, its result and a further question, empty if there is none."""
    fits = [turns for turns in asked if [turn.task for turn in turns[:2]] == ["tool_call", "tool_result"]]
    return next((turns for turns in fits if len(turns) == 3), ())


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (CALL, 1),
        (CALL.replace("9.40", "9.4"), 1),
        (CALL.replace("9.40", "9.04"), 0),
        (CALL.replace("report", "Report"), 0),
        (CALL + "\n" + CALL, 0),
        ("Well. " + CALL, 0),
        (CALL.removesuffix("</tool_call>"), 0),
        ("9.40", 0),
        ("", 0),
    ],
)
def test_a_call_is_right_or_wrong(answer: str, score: int) -> None:
    """Guards the score of calls: name and all arguments as JSON, once, and nothing beside."""
    assert score_answer("tool_call", answer, CALL) == score
