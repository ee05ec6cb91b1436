"""Questions about a scene with their true answers, in English and Chinese.

Knows what people ask and how the answer is worded; does not know pixels or tokens. A question is only asked where the
scene has one answer to it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlrun_export.tiny.scenes import COLOURS, EASY_COLOURS, KINDS, SHAPES, Item, Scene

DESCRIBE = {
    "en": ("Describe this image.", "Describe the picture.", "What do you see?", "What is in this image?", "describe"),
    "zh": ("描述这张图片。", "请描述这张图片。", "图片里有什么？", "你看到了什么？"),
}
TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "describe": DESCRIBE,
    "count_kind": {
        "en": (
            "How many {kinds} are there?", "How many {kinds}?", "how many {kinds} are in the picture?",
            "How many {kinds} do you see?", "Count the {kinds}.", "What is the number of {kinds}?",
            "How many {kinds} are on the shelf?", "How many {kinds} can you see in this image?",
        ),
        "zh": ("有几个{zh}？", "图中有多少个{zh}？", "有多少{zh}？", "数一数{zh}。", "一共有几个{zh}？"),
    },
    "count_colour_kind": {
        "en": (
            "How many {colour} {kinds} are there?", "How many {colour} {kinds}?", "Count the {colour} {kinds}.",
            "how many {colour} {kinds} are in the picture?", "How many {colour} {kinds} do you see?",
        ),
        "zh": ("有几个{zhcolour}{zh}？", "图中有多少个{zhcolour}{zh}？", "有多少{zhcolour}的{zh}？"),
    },
    "count_items": {
        "en": (
            "How many items are there?", "How many things are there?", "How many items are on the shelf?",
            "Count all items.", "How many items in total?", "how many objects are in the picture?",
        ),
        "zh": ("一共有多少件商品？", "有几件东西？", "图中有多少个物品？", "总共有几个？"),
    },
    "count_shelves": {
        "en": ("How many shelves are there?", "How many shelves?", "Count the shelves."),
        "zh": ("有几层货架？", "货架有几层？"),
    },
    "colour": {
        "en": (
            "What color is the {kind}?", "What colour is the {kind}?", "what is the color of the {kind}?",
            "Which color does the {kind} have?",
        ),
        "zh": ("{zh}是什么颜色？", "{zh}的颜色是什么？"),
    },
    "which_shape": {
        "en": ("What is the {colour} shape?", "Which shape is {colour}?", "what shape is {colour}?"),
        "zh": ("{zhcolour}的是什么形状？", "{zhcolour}的形状是什么？"),
    },
    "exists": {
        "en": ("Is there a {colour} {kind}?", "Is there a {colour} {kind} in the picture?", "Do you see a {colour} {kind}?"),
        "zh": ("有{zhcolour}的{zh}吗？", "图中有没有{zhcolour}{zh}？"),
    },
    "json": {
        "en": (
            "Count the items as JSON.", "Give the counts as JSON.", "How many of each item are there? Answer in JSON.",
            "Count each kind of item and answer as JSON.", "JSON counts, please.",
        ),
        "zh": ("用JSON给出每种商品的数量。", "请用JSON统计数量。"),
    },
    "where": {
        "en": ("Where is the {name}?", "Locate the {name}.", "Find the {name}.", "Give the bounding box of the {name}."),
        "zh": ("{zhname}在哪里？", "找出{zhname}。", "{zhname}的位置？"),
    },
    "price": {
        "en": (
            "What is the price?", "How much does it cost?", "What does the price tag say?", "How much is it?",
            "Read the price tag.", "what's the price on the tag?",
        ),
        "zh": ("价格是多少？", "多少钱？", "价签上写着什么？", "这个多少钱？"),
    },
    "read": {
        "en": (
            "What does the sign say?", "Read the word.", "What is written here?", "What word is printed?",
            "what does it say?", "Which word is on the sign?", "Read the text.",
        ),
        "zh": ("牌子上写着什么？", "读出这个单词。", "上面写的是什么字？", "图中的文字是什么？"),
    },
}  # fmt: skip

PLURAL = {"box": "boxes"}
ZH = {
    "bottle": "瓶子", "can": "罐子", "box": "盒子", "bag": "袋子",
    "circle": "圆形", "rectangle": "矩形", "triangle": "三角形",
    "red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "orange": "橙色", "purple": "紫色",
    "black": "黑色", "gray": "灰色", "teal": "青色", "brown": "棕色",
}  # fmt: skip

SELF = {
    "en": (("Hello", "Hi", "Who are you?", "What are you?"), "I am the tiny demo model of vlrun. Show me a picture."),
    "zh": (("你好", "你是谁？"), "我是vlrun的小演示模型。给我看一张图片吧。"),
}


@dataclass(frozen=True)
class Exchange:
    """A question, its answer, what it tests (``task``) and its language."""

    task: str
    language: str
    question: str
    answer: str


def exchanges(scene: Scene, rng: np.random.Generator) -> Iterator[Exchange]:
    """Questions about the scene, without end, tasks in random order and all possible ones equally often."""
    makers = {
        "shelf": _shelf_tasks, "shapes": _shape_tasks, "tag": _tag_tasks, "sign": _sign_tasks,
    }[scene.domain](scene)  # fmt: skip
    while True:
        for index in rng.permutation(len(makers)):
            task = makers[index]
            language = "en" if rng.random() < 0.6 else "zh"
            yield from _ask(task, scene, language, rng)


def _shelf_tasks(scene: Scene) -> list[str]:
    tasks = ["describe", "count_kind", "count_kind", "count_colour_kind", "count_items", "count_shelves", "exists", "json"]
    tasks += ["where", "where"] if _singular(scene.items) else []
    return tasks + (["colour"] if _single_kinds(scene.items) else [])


def _shape_tasks(scene: Scene) -> list[str]:
    tasks = ["describe", "count_kind", "exists"]
    tasks += ["where", "where"] if _singular(scene.items) else []
    tasks += ["which_shape"] if _single_colours(scene.items) else []
    return tasks + (["colour", "colour"] if _single_kinds(scene.items) else [])


def _tag_tasks(scene: Scene) -> list[str]:
    return ["price", "price", "describe"]


def _sign_tasks(scene: Scene) -> list[str]:
    return ["read", "read", "describe"]


def _ask(task: str, scene: Scene, language: str, rng: np.random.Generator) -> Iterator[Exchange]:
    template = str(rng.choice(TEMPLATES[task][language]))
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    counts = Counter(item.kind for item in scene.items)
    if task == "describe":
        yield Exchange(task, language, template, _description(scene, language))
    elif task == "count_kind":
        kind = _balanced_kind(counts, kinds, rng)
        yield Exchange(task, language, _fill(template, kind), str(counts[kind]))
    elif task in ("count_colour_kind", "exists"):
        yield _about_colour_and_kind(task, scene, language, template, rng)
    elif task == "count_items":
        yield Exchange(task, language, template, str(len(scene.items)))
    elif task == "count_shelves":
        yield Exchange(task, language, template, str(scene.shelves))
    elif task == "json":
        present = {kind: counts[kind] for kind in kinds if counts[kind]}
        yield Exchange(task, language, template, json.dumps(present))
    elif task in ("price", "read"):
        yield Exchange(task, language, template, scene.text)
    else:
        yield _about_one(task, scene, language, template, rng)


def _balanced_kind(counts: Counter[str], kinds: Sequence[str], rng: np.random.Generator) -> str:
    """Rather a kind that is there often: otherwise most answers would be 0 and 1."""
    weights = np.array([counts[kind] + 0.2 for kind in kinds])
    return str(rng.choice(kinds, p=weights / weights.sum()))


def _about_colour_and_kind(
    task: str, scene: Scene, language: str, template: str, rng: np.random.Generator
) -> Exchange:
    counts = Counter((item.kind, item.colour) for item in scene.items)
    if counts and rng.random() < (0.5 if task == "exists" else 0.8):
        weights = np.array(list(counts.values()), np.float64)
        kind, colour = list(counts)[int(rng.choice(len(counts), p=weights / weights.sum()))]
    else:
        kind, colour = _near_miss(scene, rng)
    count = counts[kind, colour]
    yes, no = ("yes", "no") if language == "en" else ("有", "没有")
    answer = (yes if count else no) if task == "exists" else str(count)
    return Exchange(task, language, _fill(template, kind, colour), answer)


def _near_miss(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A kind and a colour that are (mostly) not there together, though each of them may be."""
    kinds = SHAPES if scene.domain == "shapes" else KINDS
    palette = list(COLOURS) if scene.domain == "shelf" or len(scene.items) > 1 else list(EASY_COLOURS)
    kind, colour = str(rng.choice(kinds)), str(rng.choice(palette))
    if scene.items and rng.random() < 0.6:
        item = scene.items[int(rng.integers(len(scene.items)))]
        return (item.kind, colour) if rng.random() < 0.5 else (kind, item.colour)
    return kind, colour


def _about_one(task: str, scene: Scene, language: str, template: str, rng: np.random.Generator) -> Exchange:
    pool = {"where": _singular, "colour": _single_kinds, "which_shape": _single_colours}[task](scene.items)
    item = pool[int(rng.integers(len(pool)))]
    if task == "where":
        alone = item in _single_kinds(scene.items)
        bare = alone and rng.random() < 0.5
        name = item.kind if bare else f"{item.colour} {item.kind}"
        zhname = ZH[item.kind] if bare else ZH[item.colour] + ZH[item.kind]
        return Exchange(task, language, template.format(name=name, zhname=zhname), box_answer(item, name))
    if task == "colour":
        answer = item.colour if language == "en" else ZH[item.colour]
        return Exchange(task, language, _fill(template, item.kind), answer)
    answer = item.kind if language == "en" else ZH[item.kind]
    return Exchange(task, language, _fill(template, item.kind, item.colour), answer)


def box_answer(item: Item, label: str) -> str:
    """Qwen's grounding format, coordinates in 0-1000, here rounded to tens: finer than a patch sees."""
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
        listed = "、".join(f"{counts[k]}个{ZH[k]}" for k in KINDS if counts[k])
        return f"货架上有{listed}。" if listed else "货架是空的。"
    names = [f"{counts[k]} {k if counts[k] == 1 else _plural(k)}" for k in KINDS if counts[k]]
    return f"A shelf with {_enumerate(names)}." if names else "An empty shelf."


def _list_shapes(scene: Scene, language: str) -> str:
    items = sorted(scene.items, key=lambda item: (item.box[1] > 0.45, item.box[0]))
    if language == "zh":
        return "、".join(f"{ZH[item.colour]}{ZH[item.kind]}" for item in items) + "。"
    return _enumerate([f"{item.colour} {item.kind}" for item in items]) + "."


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _fill(template: str, kind: str, colour: str = "red") -> str:
    filled = template.format(kind=kind, kinds=_plural(kind), zh=ZH[kind], colour=colour, zhcolour=ZH[colour])
    return filled.replace(" a orange", " an orange")


def _plural(kind: str) -> str:
    return PLURAL.get(kind, kind + "s")


def _singular(items: Sequence[Item]) -> list[Item]:
    """Items that their kind and colour name alone."""
    counts = Counter((item.kind, item.colour) for item in items)
    return [item for item in items if counts[item.kind, item.colour] == 1]


def _single_kinds(items: Sequence[Item]) -> list[Item]:
    counts = Counter(item.kind for item in items)
    return [item for item in items if counts[item.kind] == 1]


def _single_colours(items: Sequence[Item]) -> list[Item]:
    counts = Counter(item.colour for item in items)
    return [item for item in items if counts[item.colour] == 1]
