"""Questions in the exact words of vlrun's tasks, with their true answers; some take two turns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from training.qa import AttentionTarget, QAPair, Turns
from training.scene_questions import box_answer
from training.scenes import KINDS, SHAPES, Item, Scene
from training.templates import ZH, plural
from vlrun.tasks.definition import Language, TaskArguments, find_task

MAX_BOXES = 6
FIELDS: dict[str, dict[Language, tuple[str, ...]]] = {
    "tag": {"en": ("price",), "zh": ("价格",)},
    "sign": {"en": ("word", "text"), "zh": ("文字",)},
}
ABSENT: dict[Language, tuple[str, ...]] = {"en": ("number", "date", "total"), "zh": ("日期", "总数")}
"""Fields that no scene has."""


def task_questions(scene: Scene, rng: np.random.Generator) -> Iterator[Turns]:
    """Yield questions of tasks about the scene endlessly."""
    while True:
        language = _language(rng)
        if scene.domain in FIELDS:
            yield (_fields(scene, language, rng) if rng.random() < 0.6 else _ocr(scene, language),)
        elif rng.random() < 0.5:
            yield (_locate(scene, language, rng),)
        elif scene.domain == "shelf" and rng.random() < 0.4:
            yield _steps(scene, language), _count(scene, language, rng)
        else:
            yield (_count(scene, language, rng),)


def locate_question(scene: Scene, rng: np.random.Generator) -> Turns:
    """Ask for boxes around all items of one or two kinds."""
    return (_locate(scene, _language(rng), rng),)


def _language(rng: np.random.Generator) -> Language:
    return "en" if rng.random() < 0.6 else "zh"


def _count(scene: Scene, language: Language, rng: np.random.Generator) -> QAPair:
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    counts = Counter(item.kind for item in scene.items)
    anything = rng.random() < 0.3
    asked = [kind for kind in kinds if counts[kind]]
    if not anything:
        asked = [str(kind) for kind in rng.permutation(kinds)[: int(rng.integers(1, len(kinds) + 1))]]
    items = () if anything else tuple(_named(kind, language) for kind in asked)
    found = [[item for item in scene.items if item.kind == kind] for kind in asked]
    numbers = {_named(kind, language): len(of_kind) for kind, of_kind in zip(asked, found, strict=True)}
    answer = json.dumps({"total": sum(numbers.values()), "items": numbers}, ensure_ascii=False)
    everything = [item for of_kind in found for item in of_kind]
    spans = [number.span() for number in re.finditer("[0-9]+", answer)]
    attention = [_counted(span, of) for span, of in zip(spans, [everything, *found], strict=True)]
    return QAPair(
        "count", language, find_task("count").question(language, TaskArguments(items=items)), answer, tuple(attention)
    )


def _steps(scene: Scene, language: Language) -> QAPair:
    """Ask for the items shelf by shelf, from the top."""
    answer, attention = "", []
    for number, shelf in enumerate(_shelves(scene), 1):
        answer += f"Row {number}: " if language == "en" else f"第{number}行："
        kinds = [kind for kind in KINDS if any(item.kind == kind for item in shelf)]
        for place, kind in enumerate(kinds):
            found = [item for item in shelf if item.kind == kind]
            answer += (", " if language == "en" else "、") if place else ""
            attention.append(_counted((len(answer), len(answer) + len(str(len(found)))), found))
            name = kind if len(found) == 1 else plural(kind)
            answer += f"{len(found)} {name}" if language == "en" else f"{len(found)}个{ZH[kind]}"
        answer += (("" if kinds else "nothing") + ". ") if language == "en" else ("" if kinds else "没有东西") + "。"
    return QAPair(
        "steps",
        language,
        find_task("count").steps_question(language, TaskArguments()),
        answer.strip(),
        tuple(attention),
    )


def _shelves(scene: Scene) -> list[list[Item]]:
    """The items of each shelf, from the top."""
    return [
        [item for item in scene.items if shelf < item.box[3] * scene.shelves <= shelf + 1]
        for shelf in range(scene.shelves)
    ]


def _locate(scene: Scene, language: Language, rng: np.random.Generator) -> QAPair:
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    present = [kind for kind in kinds if any(item.kind == kind for item in scene.items)]
    names: list[tuple[str, str | None]] = []
    for _ in range(1 + int(rng.random() < 0.25)):
        kind = str(rng.choice(present if present and rng.random() < 0.9 else kinds))
        colours = sorted({item.colour for item in scene.items if item.kind == kind})
        of_a_colour = colours and rng.random() < 0.35
        names.append((kind, str(rng.choice(colours)) if of_a_colour else None))
    names = list(dict.fromkeys(names))
    if len({kind for kind, _ in names}) < len(names) or len(_matching(scene, names)) > MAX_BOXES:
        names = names[:1]
    found = _matching(scene, names)
    if len(found) > MAX_BOXES:
        return _count(scene, language, rng)
    answer, attention = "[", []
    for place, (item, label) in enumerate(found):
        answer += ", " if place else ""
        box = box_answer(item, label)
        attention.append(AttentionTarget(len(answer) + box.index("["), len(answer) + box.index("]") + 1, (item.box,)))
        answer += box
    items = tuple(_named(kind, language, colour) for kind, colour in names)
    question = find_task("locate").question(language, TaskArguments(items=items))
    return QAPair("locate", language, question, answer + "]", tuple(attention))


def _matching(scene: Scene, names: Sequence[tuple[str, str | None]]) -> list[tuple[Item, str]]:
    """Items with one of the names, in reading order, each with its label, which is always English."""
    found = [
        (item, kind if colour is None else f"{colour} {kind}")
        for item in scene.items
        for kind, colour in names
        if item.kind == kind and colour in (None, item.colour)
    ]
    rows = max(scene.shelves, 2)
    return sorted(found, key=lambda one: (int(one[0].box[3] * rows - 0.01), one[0].box[0]))


def _fields(scene: Scene, language: Language, rng: np.random.Generator) -> QAPair:
    names = [str(rng.choice(FIELDS[scene.domain][language]))]
    names += [str(name) for name in rng.permutation(ABSENT[language])[: int(rng.integers(0, 3))]]
    fields = tuple(str(name) for name in rng.permutation(names))
    answer = json.dumps({name: scene.text if name == names[0] else "" for name in fields}, ensure_ascii=False)
    question = find_task("fields").question(language, TaskArguments(fields=fields))
    return QAPair("fields", language, question, answer, _of_text(scene, answer, f": {json.dumps(scene.text)}"))


def _ocr(scene: Scene, language: Language) -> QAPair:
    question = find_task("ocr").question(language, TaskArguments())
    return QAPair("ocr", language, question, scene.text, _of_text(scene, scene.text, scene.text))


def _of_text(scene: Scene, answer: str, around: str) -> tuple[AttentionTarget, ...]:
    """One target for each character of the text. ``around`` is the part of the answer that contains it."""
    start = answer.index(around) + around.index(scene.text)
    return tuple(
        AttentionTarget(start + place, start + place + 1, (glyph.box,)) for place, glyph in enumerate(scene.glyphs)
    )


def _counted(span: tuple[int, int], items: Sequence[Item]) -> AttentionTarget:
    return AttentionTarget(*span, tuple(item.box for item in items), counted=True)


def _named(kind: str, language: Language, colour: str | None = None) -> str:
    if language == "zh":
        return (ZH[colour] if colour else "") + ZH[kind]
    return f"{colour} {kind}" if colour else kind
