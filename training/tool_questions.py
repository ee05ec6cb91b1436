"""Conversations with tools: when a tool is called, with which arguments, and what is answered to its result.

A question about what a tool reports, or a request to report it, calls the tool; any other question is answered as if
there were no tools. After a call and its result, the answer says what was reported; later questions are answered
plainly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from training.qa import AttentionTarget, QAPair, Turns
from training.scene_questions import qa_pairs
from training.scenes import KINDS, SHAPES, Item, Scene
from training.templates import TEMPLATES, ZH, join_names, plural
from training.tool_definitions import Argument, Subject, ToolDefinition, Toolset, draw_toolset

CALL_CHANCE, RESULT_CHANCE, FURTHER_CHANCE, EARLIER_CHANCE = 0.65, 0.5, 0.5, 0.12
"""Probability of a call if a tool fits, of its result, of a further question, and of an earlier one."""
FITTING_CHANCE = 0.75
"""Probability that one of the tools fits the image."""

COUNT = {
    "en": (
        "Count the {many}.", "How many {many} are there?", "How many {many} are there? {report} them.",
        "How many {many}?", "{report} the {many}.", "{report} how many {many} there are.", "Please count the {many}.",
        "{report} the number of {many}.", "{report} the counts.", "Count the {many} and {lower} them.",
        "Please {lower} the {many}.", "Call {name}.", "Use {name}.",
    ),
    "zh": (
        "数一数{zh}。", "有几个{zh}？", "有几个{zh}？请报告。", "有多少{zh}？请报告。", "报告{zh}的数量。",
        "请报告数量。", "图中有多少个{zh}？", "调用{name}。",
    ),
}  # fmt: skip
PRICE = {
    "en": (
        "What does it cost?", "What does it cost? {report} it.", "{report} the price.", "{report} what it costs.",
        "What is the price? {report} it.", "Please {lower} the price.", "Read the price and {lower} it.",
        "Call {name}.",
    ),
    "zh": ("报告价格。", "价格是多少？请报告。", "请报告价格。", "调用{name}。"),
}  # fmt: skip
TEXT = {
    "en": (
        "{report} the text.", "{report} the word.", "{report} what it says.", "What does the sign say? {report} it.",
        "Read the sign and {lower} it.", "Please {lower} the text.", "Call {name}.",
    ),
    "zh": ("报告文字。", "上面写着什么？请报告。", "请报告文字。", "调用{name}。"),
}  # fmt: skip
REPORT = ("Report", "Report", "Report", "Save", "Record", "Log", "Send")

GOOD = (
    '{"ok": true}', '{"ok": true}', "ok", "OK", "done", '{"status": "ok"}', '{"saved": true}', '{"success": true}',
    "true", '{"result": "ok"}', "saved",
)  # fmt: skip
BAD = ('{"ok": false}', '{"error": "not found"}', "error", '{"status": "failed"}', "false", '{"success": false}')
BAD_CHANCE = 0.2
REPORTED = {"en": "Reported: {what}.", "zh": "已报告：{what}。"}
NOT_REPORTED = {"en": "Not reported.", "zh": "没有报告。"}

OPENS, CLOSES = "<tool_response>\n", "\n</tool_response>"

SUBJECT_OF: dict[str, Subject] = {"shelf": "counts", "shapes": "counts", "tag": "price", "sign": "text"}


def draw_toolset_for(scene: Scene, tools: int, rng: np.random.Generator) -> Toolset:
    """Draw ``tools`` tools; often one of them fits the image."""
    own = SUBJECT_OF[scene.domain]
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    if rng.random() < FITTING_CHANCE:
        return draw_toolset(own, kinds, tools, rng)
    others: list[Subject] = [subject for subject in ("counts", "price", "text") if subject != own]
    drawn = draw_toolset(others[int(rng.integers(2))], kinds, min(tools, 2), rng)
    return Toolset(tuple(tool for tool in drawn.tools if not _fits(tool, scene)), drawn.system)


def tool_conversations(scene: Scene, toolset: Toolset, rng: np.random.Generator) -> Iterator[Turns]:
    """Yield conversations about the scene with these tools endlessly."""
    fitting = [tool for tool in toolset.tools if _fits(tool, scene)]
    plain = qa_pairs(scene, rng)
    unrelated = (qa for qa in plain if not any(_concerns(qa, tool) for tool in fitting))
    while True:
        if not fitting or rng.random() >= CALL_CHANCE:
            yield (next(unrelated),)
            continue
        tool = fitting[int(rng.integers(len(fitting)))]
        turns = [next(unrelated)] if rng.random() < EARLIER_CHANCE else []
        turns += tool_turns(scene, tool, rng)[: 1 + int(rng.random() < RESULT_CHANCE)]
        if turns[-1].task == "tool_result" and rng.random() < FURTHER_CHANCE:
            turns.append(next(plain))
        yield tuple(turns)


def tool_turns(scene: Scene, tool: ToolDefinition, rng: np.random.Generator) -> tuple[QAPair, QAPair]:
    """Draw a question that calls the tool, and the answer to the tool's result."""
    language = "en" if rng.random() < 0.65 else "zh"
    kinds = [argument.meaning for argument in tool.arguments]
    if tool.subject == "count":
        kinds = [_a_kind(scene, rng)]
    question, asked = _question(tool, kinds, language, rng)
    answer, attention = _call(scene, tool, asked)
    call = QAPair("tool_call", language, question, answer, attention)
    good = rng.random() >= BAD_CHANCE
    result = str(rng.choice(GOOD if good else BAD))
    what = _reported(scene, tool, asked, language)
    reply = (REPORTED if good else NOT_REPORTED)[language].format(what=what)
    return call, QAPair("tool_result", language, response(result), reply)


def response(result: str) -> str:
    """A tool's result as the chat template renders it, in a user turn."""
    return f"{OPENS}{result}{CLOSES}"


def result_of(question: str) -> str | None:
    """The result inside a rendered response; None if the question comes from the user."""
    return question.removeprefix(OPENS).removesuffix(CLOSES) if question.startswith(OPENS) else None


def _fits(tool: ToolDefinition, scene: Scene) -> bool:
    """Whether the image shows what the tool is for."""
    return ("counts" if tool.subject == "count" else tool.subject) == SUBJECT_OF[scene.domain]


def _concerns(qa: QAPair, tool: ToolDefinition) -> bool:
    """Whether a plain question asks for what the tool is for."""
    if qa.task != "count_kind":
        return {"price": "price", "read": "text"}.get(qa.task) == tool.subject
    kinds = [kind for kind in (*KINDS, *SHAPES) if plural(kind) in qa.question or ZH[kind] in qa.question]
    return tool.subject == "count" or any(argument.meaning in kinds for argument in tool.arguments)


def _a_kind(scene: Scene, rng: np.random.Generator) -> str:
    """Draw a kind, preferring frequent ones."""
    there = [item.kind for item in scene.items]
    return str(rng.choice([*there, *(SHAPES if scene.domain == "shapes" else KINDS)]))


def _question(
    tool: ToolDefinition, kinds: Sequence[str], language: str, rng: np.random.Generator
) -> tuple[str, Sequence[str]]:
    """Draw a question that calls the tool, and the kinds that the call reports."""
    report = str(rng.choice(REPORT))
    if tool.subject in ("price", "text"):
        own, task = (PRICE, "price") if tool.subject == "price" else (TEXT, "read")
        template = str(rng.choice(own[language] if rng.random() < 0.6 else TEMPLATES[task][language]))
        return template.format(report=report, lower=report.lower(), name=tool.name), kinds
    named = list(kinds)
    if len(kinds) > 1 and rng.random() < 0.3:  # another order, or a part: the call has all of them
        named = [str(kind) for kind in rng.permutation(kinds)[: int(rng.integers(1, len(kinds) + 1))]]
    templates = [t for t in COUNT[language] if tool.subject == "counts" or "{many}" in t or "{zh}" in t]
    template = str(rng.choice(templates))
    many, zh = join_names([plural(kind) for kind in named]), _join_zh([ZH[kind] for kind in named])
    return template.format(many=many, zh=zh, report=report, lower=report.lower(), name=tool.name), kinds


def _call(scene: Scene, tool: ToolDefinition, kinds: Sequence[str]) -> tuple[str, tuple[AttentionTarget, ...]]:
    """The call as the model writes it, with an attention target for each value."""
    answer = f'<tool_call>\n{{"name": "{tool.name}", "arguments": {{'
    attention: list[AttentionTarget] = []
    for place, argument in enumerate(tool.arguments):
        answer += (", " if place else "") + json.dumps(argument.name, ensure_ascii=False) + ": "
        value, start = _value(scene, argument, kinds), len(answer)
        answer += value
        if argument.meaning in ("price", "text"):
            attention += _spelled(scene, value, start)
        elif argument.meaning != "item":
            found = _items(scene, argument, kinds)
            attention.append(AttentionTarget(start, len(answer), tuple(item.box for item in found), counted=True))
    return answer + "}}\n</tool_call>", tuple(attention)


def _value(scene: Scene, argument: Argument, kinds: Sequence[str]) -> str:
    """An argument's value as JSON. A numeric price keeps its digits: 9.40 stays 9.40."""
    if argument.meaning in ("price", "text"):
        return json.dumps(scene.text) if argument.type == "string" else scene.text.removeprefix("$")
    return json.dumps(kinds[0]) if argument.meaning == "item" else str(len(_items(scene, argument, kinds)))


def _items(scene: Scene, argument: Argument, kinds: Sequence[str]) -> list[Item]:
    """The items that an argument counts."""
    counted = kinds[0] if argument.meaning == "count" else argument.meaning
    return [item for item in scene.items if item.kind == counted]


def _spelled(scene: Scene, value: str, start: int) -> Iterator[AttentionTarget]:
    """One target for each character; a number has no dollar sign."""
    glyphs = [glyph for glyph in scene.glyphs if glyph.character in value]
    first = start + value.index("".join(glyph.character for glyph in glyphs))
    return (AttentionTarget(first + place, first + place + 1, (glyph.box,)) for place, glyph in enumerate(glyphs))


def _reported(scene: Scene, tool: ToolDefinition, kinds: Sequence[str], language: str) -> str:
    """What was reported, in words."""
    if tool.subject in ("price", "text"):
        return scene.text
    numbers = [sum(item.kind == kind for item in scene.items) for kind in kinds]
    counted = list(zip(numbers, kinds, strict=True))
    if language == "zh":
        return _join_zh([f"{number}个{ZH[kind]}" for number, kind in counted])
    return join_names([f"{number} {kind if number == 1 else plural(kind)}" for number, kind in counted])


def _join_zh(names: Sequence[str]) -> str:
    return "、".join(names)
