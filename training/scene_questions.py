"""Questions about one scene with their true answers, in English and Chinese.

A question is asked only where the scene has exactly one answer to it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from training.qa import AttentionTarget, QAPair
from training.rendering import COLOURS, EASY_COLOURS
from training.scenes import KINDS, SHAPES, Item, Scene
from training.templates import ADDED_TEMPLATES, TEMPLATES, ZH, fill, join_names, plural


def qa_pairs(scene: Scene, rng: np.random.Generator, *, added_templates: bool = True) -> Iterator[QAPair]:
    """Yield questions about the scene endlessly: tasks in random order, all possible ones equally often.

    Without ``added_templates``, only the wordings that the tokenizer was trained on are used.
    """
    tasks = _tasks(scene)
    while True:
        for index in rng.permutation(len(tasks)):
            task = tasks[index]
            language = "en" if rng.random() < 0.6 else "zh"
            yield from _ask(task, scene, language, rng, added_templates)


def _tasks(scene: Scene) -> list[str]:
    """The tasks that fit the scene, repeated by weight."""
    if scene.domain == "shelf":
        return _shelf_tasks(scene)
    if scene.domain == "shapes":
        return _shape_tasks(scene)
    asked = "price" if scene.domain == "tag" else "read"
    return [asked, asked, "describe"]


def _shelf_tasks(scene: Scene) -> list[str]:
    tasks = ["describe", "count_kind", "count_kind", "count_colour_kind", "count_colour_kind", "count_items"]
    tasks += ["count_shelves", "exists", "json"]
    tasks += ["where"] * 3 if _singular(scene.items) else []
    return tasks + (["colour"] if _single_kinds(scene.items) else [])


def _shape_tasks(scene: Scene) -> list[str]:
    tasks = ["describe", "count_kind", "exists"]
    tasks += ["where", "where"] if _singular(scene.items) else []
    tasks += ["which_shape"] if _single_colours(scene.items) else []
    return tasks + (["colour", "colour"] if _single_kinds(scene.items) else [])


def _ask(task: str, scene: Scene, language: str, rng: np.random.Generator, added_templates: bool) -> Iterator[QAPair]:
    more = ADDED_TEMPLATES.get((task, language), ()) if added_templates else ()
    template = str(rng.choice([*TEMPLATES[task][language], *more]))
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    counts = Counter(item.kind for item in scene.items)
    if task == "describe":
        answer = _description(scene, language)
        yield QAPair(task, language, template, answer, _attention_of_description(scene, answer))
    elif task == "count_kind":
        kind = _balanced_kind(counts, kinds, rng)
        yield _counting(task, language, fill(template, kind), [item for item in scene.items if item.kind == kind])
    elif task in ("count_colour_kind", "exists"):
        yield _about_colour_and_kind(task, scene, language, template, rng)
    elif task == "count_items":
        yield _counting(task, language, template, scene.items)
    elif task == "count_shelves":
        yield QAPair(task, language, template, str(scene.shelves))
    elif task == "json":
        answer = json.dumps({kind: counts[kind] for kind in kinds if counts[kind]})
        yield QAPair(task, language, template, answer, _attention_of_counts(scene, answer))
    elif task in ("price", "read"):
        yield QAPair(task, language, template, scene.text, _attention_of_text(scene, scene.text))
    else:
        yield _about_one(task, scene, language, template, rng, added_templates)


def _balanced_kind(counts: Counter[str], kinds: Sequence[str], rng: np.random.Generator) -> str:
    """Draw a kind, preferring frequent ones: otherwise most answers would be 0 or 1."""
    weights = np.array([counts[kind] + 0.2 for kind in kinds])
    return str(rng.choice(kinds, p=weights / weights.sum()))


def _about_colour_and_kind(task: str, scene: Scene, language: str, template: str, rng: np.random.Generator) -> QAPair:
    counts = Counter((item.kind, item.colour) for item in scene.items)
    if counts and rng.random() < (0.5 if task == "exists" else 0.8):
        weights = np.array(list(counts.values()), np.float64)
        kind, colour = list(counts)[int(rng.choice(len(counts), p=weights / weights.sum()))]
    else:
        kind, colour = _near_miss(scene, rng)
    found = [item for item in scene.items if (item.kind, item.colour) == (kind, colour)]
    asked = _counting(task, language, fill(template, kind, colour), found)
    if task != "exists":
        return asked
    yes, no = ("yes", "no") if language == "en" else ("有", "没有")
    answer = yes if found else no
    return replace(asked, answer=answer, attention=(replace(asked.attention[0], end=len(answer)),))


def _counting(task: str, language: str, question: str, items: Sequence[Item]) -> QAPair:
    answer = str(len(items))
    target = AttentionTarget(0, len(answer), tuple(item.box for item in items), counted=True)
    return QAPair(task, language, question, answer, (target,))


def _near_miss(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Draw a kind and a colour that are mostly absent together, though each may be there."""
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    palette = list(COLOURS) if scene.domain == "shelf" or len(scene.items) > 1 else list(EASY_COLOURS)
    kind, colour = str(rng.choice(kinds)), str(rng.choice(palette))
    if scene.items and rng.random() < 0.6:
        item = scene.items[int(rng.integers(len(scene.items)))]
        return (item.kind, colour) if rng.random() < 0.5 else (kind, item.colour)
    return kind, colour


def _about_one(
    task: str, scene: Scene, language: str, template: str, rng: np.random.Generator, added_templates: bool
) -> QAPair:
    pool = {"where": _singular, "colour": _single_kinds, "which_shape": _single_colours}[task](scene.items)
    item = pool[int(rng.integers(len(pool)))]
    if task == "where":
        alone = item in _single_kinds(scene.items)
        bare = alone and rng.random() < 0.5
        name = item.kind if bare else f"{item.colour} {item.kind}"
        between = str(rng.choice(["", "的"])) if added_templates else ""
        zhname = ZH[item.kind] if bare else ZH[item.colour] + between + ZH[item.kind]
        answer = box_answer(item, name)
        target = AttentionTarget(answer.index("["), answer.index("]") + 1, (item.box,))
        return QAPair(task, language, template.format(name=name, zhname=zhname), answer, (target,))
    answer = item.colour if task == "colour" else item.kind
    answer = answer if language == "en" else ZH[answer]
    target = AttentionTarget(0, len(answer), (item.box,))
    return QAPair(task, language, fill(template, item.kind, item.colour), answer, (target,))


def box_answer(item: Item, label: str) -> str:
    """A box in Qwen's grounding format: coordinates in 0..1000, rounded to tens, which is finer than a patch."""
    box = [min(1000, max(0, round(edge * 100) * 10)) for edge in item.box]
    return json.dumps({"bbox_2d": box, "label": label})


def _description(scene: Scene, language: str) -> str:
    if scene.domain == "tag":
        return f"A price tag that says {scene.text}." if language == "en" else f"一个价签，写着{scene.text}。"
    if scene.domain == "sign":
        return f"A sign that says {scene.text}." if language == "en" else f"一块牌子，写着{scene.text}。"
    if scene.domain == "shapes":
        return _list_shapes(scene, language)
    counts = Counter(item.kind for item in scene.items)
    if language == "zh":
        stock = "、".join(f"{counts[k]}个{ZH[k]}" for k in KINDS if counts[k])
        return f"货架上有{stock}。" if stock else "货架是空的。"
    names = [f"{counts[k]} {k if counts[k] == 1 else plural(k)}" for k in KINDS if counts[k]]
    return f"A shelf with {join_names(names)}." if names else "An empty shelf."


def _list_shapes(scene: Scene, language: str) -> str:
    items = _in_reading_order(scene.items)
    if language == "zh":
        return "、".join(f"{ZH[item.colour]}{ZH[item.kind]}" for item in items) + "。"
    return join_names([f"{item.colour} {item.kind}" for item in items]) + "."


def _in_reading_order(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (item.box[1] > 0.45, item.box[0]))


def _attention_of_description(scene: Scene, answer: str) -> tuple[AttentionTarget, ...]:
    if scene.domain in ("tag", "sign"):
        return _attention_of_text(scene, answer)
    return _attention_of_list(scene, answer) if scene.domain == "shapes" else _attention_of_counts(scene, answer)


def _attention_of_text(scene: Scene, answer: str) -> tuple[AttentionTarget, ...]:
    """One target for each character."""
    start = answer.index(scene.text)
    return tuple(
        AttentionTarget(start + place, start + place + 1, (glyph.box,)) for place, glyph in enumerate(scene.glyphs)
    )


def _attention_of_list(scene: Scene, answer: str) -> tuple[AttentionTarget, ...]:
    """One target for each shape, over its colour and kind."""
    attention, start = [], 0
    for item in _in_reading_order(scene.items):
        names = (item.kind, ZH[item.kind])
        end = min(answer.index(name, start) + len(name) for name in names if name in answer[start:])
        attention.append(AttentionTarget(start, end, (item.box,)))
        start = end
    return tuple(attention)


def _attention_of_counts(scene: Scene, answer: str) -> tuple[AttentionTarget, ...]:
    """One target for each number, in the order of the kinds."""
    present = [kind for kind in KINDS if any(item.kind == kind for item in scene.items)]
    numbers = re.finditer("[0-9]+", answer)
    boxes = (tuple(item.box for item in scene.items if item.kind == kind) for kind in present)
    return tuple(
        AttentionTarget(*number.span(), found, counted=True) for number, found in zip(numbers, boxes, strict=True)
    )


def _singular(items: Sequence[Item]) -> list[Item]:
    """Items with a unique combination of kind and colour."""
    counts = Counter((item.kind, item.colour) for item in items)
    return [item for item in items if counts[item.kind, item.colour] == 1]


def _single_kinds(items: Sequence[Item]) -> list[Item]:
    counts = Counter(item.kind for item in items)
    return [item for item in items if counts[item.kind] == 1]


def _single_colours(items: Sequence[Item]) -> list[Item]:
    counts = Counter(item.colour for item in items)
    return [item for item in items if counts[item.colour] == 1]
