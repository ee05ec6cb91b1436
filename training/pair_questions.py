"""Questions about two images, with their true answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from training.qa import AttentionTarget, QAPair
from training.scenes import KINDS, SHAPES, Item, Scene
from training.templates import ZH, fill, plural
from vlrun.tasks.definition import TaskArguments, find_task

PAIR_DOMAINS = {"shelf": 0.7, "shapes": 0.18, "sign": 0.07, "tag": 0.05}

MORE = {
    "en": (
        "Which has more {kinds}?", "Which picture has more {kinds}?", "Which picture shows more {kinds}?",
        "In which picture are more {kinds}?",
    ),
    "zh": ("哪张图片的{zh}更多？", "哪张图里{zh}多？"),
}  # fmt: skip
COUNT = {
    "en": ("How many {kinds} are in Picture {number}?", "Picture {number}: how many {kinds}?"),
    "zh": ("Picture {number}里有几个{zh}？", "第{number}张图片有多少个{zh}？"),
}
WHICH = {
    "en": ("Which picture has a {colour} {kind}?", "Where do you see a {colour} {kind}?"),
    "zh": ("哪张图片有{zhcolour}{zh}？", "哪张图里有{zhcolour}的{zh}？"),
}
READ = {
    "en": ("What does Picture {number} say?", "Read the text in Picture {number}."),
    "zh": ("Picture {number}上写着什么？",),
}
ANSWERS = {"en": ("Picture 1", "Picture 2", "Both the same"), "zh": ("第1张", "第2张", "一样多")}


def pair_questions(scenes: Sequence[Scene], rng: np.random.Generator) -> Iterator[QAPair]:
    """Yield questions about two scenes of one domain endlessly."""
    makers: list[Callable[[Sequence[Scene], str, np.random.Generator], QAPair | None]] = [_read]
    if scenes[0].domain not in ("sign", "tag"):
        makers = [_more, _more, _count, _count, _which, *([_compare] if scenes[0].domain == "shelf" else [])]
    while True:
        language = "en" if rng.random() < 0.6 else "zh"
        qa = makers[int(rng.integers(len(makers)))](scenes, language, rng)
        if qa:
            yield qa


def _more(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> QAPair:
    kind = _kind(scenes, rng)
    first, second = (len(_of(scene, kind)) for scene in scenes)
    answer = ANSWERS[language][0 if first > second else 1 if second > first else 2]
    items, images = _both(scenes, kind)
    target = AttentionTarget(0, len(answer), tuple(item.box for item in items), counted=True, images=images)
    return QAPair("which_more", language, fill(str(rng.choice(MORE[language])), kind), answer, (target,))


def _count(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> QAPair:
    kind, image = _kind(scenes, rng), int(rng.integers(2))
    items = _of(scenes[image], kind)
    template = str(rng.choice(COUNT[language])).replace("{number}", str(image + 1))
    answer = str(len(items))
    boxes = tuple(item.box for item in items)
    target = AttentionTarget(0, len(answer), boxes, counted=True, images=(image,) * len(items))
    return QAPair("count_in", language, fill(template, kind), answer, (target,))


def _which(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> QAPair | None:
    """Ask which image has an item that the other lacks; None if there is no such item."""
    first, second = ({(item.kind, item.colour) for item in scene.items} for scene in scenes)
    alone = sorted(first ^ second)
    if not alone:
        return None
    kind, colour = alone[int(rng.integers(len(alone)))]
    image = 0 if (kind, colour) in first else 1
    answer = ANSWERS[language][image]
    boxes = tuple(item.box for item in scenes[image].items if (item.kind, item.colour) == (kind, colour))
    target = AttentionTarget(0, len(answer), boxes, images=(image,) * len(boxes))
    return QAPair("which_has", language, fill(str(rng.choice(WHICH[language])), kind, colour), answer, (target,))


def _read(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> QAPair:
    image = int(rng.integers(2))
    scene = scenes[image]
    attention = tuple(
        AttentionTarget(at, at + 1, (glyph.box,), images=(image,)) for at, glyph in enumerate(scene.glyphs)
    )
    question = str(rng.choice(READ[language])).format(number=image + 1)
    return QAPair("read_in", language, question, scene.text, attention)


def _compare(scenes: Sequence[Scene], language: str, _: np.random.Generator) -> QAPair:
    """Ask for the differences: kinds with different counts."""
    answer, attention = "", []
    for kind in KINDS:
        found = [_of(scene, kind) for scene in scenes]
        if len(found[0]) == len(found[1]):
            continue
        answer += ("; " if language == "en" else "；") if answer else ""
        answer += f"{plural(kind)}: " if language == "en" else f"{ZH[kind]}："
        for image, items in enumerate(found):
            answer += (" and " if language == "en" else "和") if image else ""
            boxes = tuple(item.box for item in items)
            end = len(answer) + len(str(len(items)))
            attention.append(AttentionTarget(len(answer), end, boxes, counted=True, images=(image,) * len(items)))
            answer += str(len(items))
    same = "Nothing: there are as many of each kind" if language == "en" else "没有不同：每种数量都一样"
    question = find_task("compare").question("en" if language == "en" else "zh", TaskArguments())
    return QAPair(
        "compare", language, question, (answer or same) + ("." if language == "en" else "。"), tuple(attention)
    )


def _kind(scenes: Sequence[Scene], rng: np.random.Generator) -> str:
    """Draw a kind, preferring frequent ones."""
    kinds = SHAPES if scenes[0].domain == "shapes" else KINDS
    counts = Counter(item.kind for scene in scenes for item in scene.items)
    weights = np.array([counts[kind] + 0.4 for kind in kinds])
    return str(rng.choice(kinds, p=weights / weights.sum()))


def _of(scene: Scene, kind: str) -> list[Item]:
    return [item for item in scene.items if item.kind == kind]


def _both(scenes: Sequence[Scene], kind: str) -> tuple[list[Item], tuple[int, ...]]:
    found = [(item, image) for image, scene in enumerate(scenes) for item in _of(scene, kind)]
    return [item for item, _ in found], tuple(image for _, image in found)
