"""Draws tool definitions in OpenAI's format, for counts, prices and texts, with varied names and descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from training.templates import ZH, plural
from vlrun.types.turn import Tool

Subject: TypeAlias = Literal["counts", "count", "price", "text"]
"""What a tool is for: counts of several kinds, the count of one named kind, a price, a text."""

SUBJECTS: tuple[Subject, ...] = ("counts", "price", "text")
NAMED_COUNT_CHANCE = 0.15
"""Probability that a tool for counts takes one kind with its count."""

VERBS = (
    "report", "report", "report", "report", "set", "save", "store", "log", "record", "submit", "send", "write", "add",
    "update", "note", "put",
)  # fmt: skip
NOUNS: Mapping[Subject, tuple[str, ...]] = {
    "counts": ("count", "counts", "stock", "items", "inventory", "numbers", "things", "shelf"),
    "count": ("count", "item", "stock", "thing", "number"),
    "price": ("price", "cost", "price_tag", "amount", "tag"),
    "text": ("text", "word", "sign", "label", "words"),
}
DESCRIPTIONS: Mapping[Subject, tuple[str, ...]] = {
    "counts": ("Report how many there are.", "Save the counts.", "How many of each.", "Report counts", "报告数量。"),
    "count": ("Report how many of an item there are.", "Save the count of one item.", "报告数量。"),
    "price": ("Report the price.", "Save what it costs.", "The price on the tag", "报告价格。"),
    "text": ("Report the text.", "Save the word.", "What the sign says", "报告文字。"),
}
PRICES, TEXTS = ("price", "cost", "amount", "value"), ("text", "word", "label", "content", "sign")
ITEMS, NUMBERS = ("item", "kind", "name", "thing"), ("count", "number", "quantity", "amount")
COUNT_NAMES = ("{many}", "{many}", "{many}", "{one}", "{one}_count", "num_{many}", "{many}_count", "{zh}")
"""Names of the argument for a kind; the plural is most frequent."""
SYSTEMS = ("You are a helpful assistant.", "Be short.", "Use the tools.", "You count things on shelves.")


@dataclass(frozen=True)
class Argument:
    """An argument: its name, meaning (a kind, or ``item``, ``count``, ``price``, ``text``) and JSON type."""

    name: str
    meaning: str
    type: str


@dataclass(frozen=True)
class ToolDefinition:
    """A tool: its subject, its arguments in order, and ``definition`` as a client sends it."""

    subject: Subject
    name: str
    arguments: tuple[Argument, ...]
    definition: Tool


@dataclass(frozen=True)
class Toolset:
    """The tools of a conversation, and its system message, if any."""

    tools: tuple[ToolDefinition, ...]
    system: str | None = None

    @property
    def definitions(self) -> list[Tool]:
        """The tools as a client sends them."""
        return [tool.definition for tool in self.tools]


def draw_toolset(subject: Subject, kinds: Sequence[str], tools: int, rng: np.random.Generator) -> Toolset:
    """Draw ``tools`` tools for different subjects, one of them ``subject``; counts are of ``kinds``."""
    others = [other for other in SUBJECTS if other != subject]
    subjects = [subject, *(others[index] for index in rng.permutation(len(others))[: tools - 1])]
    drawn = [draw_tool(subjects[index], kinds, rng) for index in rng.permutation(len(subjects))]
    names = {tool.name: tool for tool in drawn}  # one name may be drawn twice
    return Toolset(tuple(names.values()), str(rng.choice(SYSTEMS)) if rng.random() < 0.1 else None)


def draw_tool(subject: Subject, kinds: Sequence[str], rng: np.random.Generator) -> ToolDefinition:
    """Draw a tool for a subject."""
    if subject == "counts" and rng.random() < NAMED_COUNT_CHANCE:
        subject = "count"
    name, arguments = _name(subject, rng), _arguments(subject, kinds, rng)
    properties = {argument.name: _property(argument, kinds, rng) for argument in arguments}
    parameters: dict[str, object] = {"type": "object", "properties": properties}
    if rng.random() < 0.9:
        parameters["required"] = [argument.name for argument in arguments]
    if rng.random() < 0.45:
        parameters["additionalProperties"] = False
    function: dict[str, object] = {"name": name}
    if rng.random() < 0.55:
        function["description"] = str(rng.choice(DESCRIPTIONS[subject]))
    function["parameters"] = parameters
    if rng.random() < 0.07:
        function["strict"] = True
    return ToolDefinition(subject, name, arguments, {"type": "function", "function": function})


def _name(subject: Subject, rng: np.random.Generator) -> str:
    verb, noun, style = str(rng.choice(VERBS)), str(rng.choice(NOUNS[subject])), rng.random()
    if style < 0.8:
        return f"{verb}_{noun}"
    if style < 0.9:
        return verb + "".join(word.capitalize() for word in noun.split("_"))
    return noun if style < 0.95 else f"{verb}-{noun}"


def _arguments(subject: Subject, kinds: Sequence[str], rng: np.random.Generator) -> tuple[Argument, ...]:
    if subject == "count":
        numbers = Argument(str(rng.choice(NUMBERS)), "count", "integer")
        return Argument(str(rng.choice(ITEMS)), "item", "string"), numbers
    if subject == "price":
        return (Argument(str(rng.choice(PRICES)), "price", str(rng.choice(["number", "string"]))),)
    if subject == "text":
        return (Argument(str(rng.choice(TEXTS)), "text", "string"),)
    style, number = str(rng.choice(COUNT_NAMES)), "integer" if rng.random() < 0.85 else "number"
    most = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.4, 0.25, 0.1]))
    chosen = [str(kind) for kind in rng.permutation(kinds)[:most]]
    return tuple(Argument(style.format(one=k, many=plural(k), zh=ZH[k]), k, number) for k in chosen)


def _property(argument: Argument, kinds: Sequence[str], rng: np.random.Generator) -> dict[str, object]:
    found: dict[str, object] = {"type": argument.type}
    if argument.meaning == "item" and rng.random() < 0.5:
        found["enum"] = list(kinds)
    if argument.type == "integer" and rng.random() < 0.08:
        found["minimum"] = 0
    if rng.random() < 0.06:
        found["description"] = f"the {argument.meaning}"
    return found
