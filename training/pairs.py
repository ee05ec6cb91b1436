"""Questions about two images, with their true answers. Knows scenes and words; does not know pixels or tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from training.questions import Exchange, Look
from training.scenes import KINDS, SHAPES, Item, Scene
from training.wording import ZH, fill, plural
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


def about_pairs(scenes: Sequence[Scene], rng: np.random.Generator) -> Iterator[Exchange]:
    """Questions about two scenes of one domain, without end."""
    makers: list[Callable[[Sequence[Scene], str, np.random.Generator], Exchange | None]] = [_read]
    if scenes[0].domain not in ("sign", "tag"):
        makers = [_more, _more, _count, _count, _which, *([_compare] if scenes[0].domain == "shelf" else [])]
    while True:
        language = "en" if rng.random() < 0.6 else "zh"
        exchange = makers[int(rng.integers(len(makers)))](scenes, language, rng)
        if exchange:
            yield exchange


def _more(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> Exchange:
    kind = _kind(scenes, rng)
    first, second = (len(_of(scene, kind)) for scene in scenes)
    answer = ANSWERS[language][0 if first > second else 1 if second > first else 2]
    items, images = _both(scenes, kind)
    look = Look(0, len(answer), tuple(item.box for item in items), counted=True, images=images)
    return Exchange("which_more", language, fill(str(rng.choice(MORE[language])), kind), answer, (look,))


def _count(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> Exchange:
    kind, image = _kind(scenes, rng), int(rng.integers(2))
    items = _of(scenes[image], kind)
    template = str(rng.choice(COUNT[language])).replace("{number}", str(image + 1))
    answer = str(len(items))
    boxes = tuple(item.box for item in items)
    look = Look(0, len(answer), boxes, counted=True, images=(image,) * len(items))
    return Exchange("count_in", language, fill(template, kind), answer, (look,))


def _which(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> Exchange | None:
    """Which of them has a thing that only one has; None if there is no such thing."""
    first, second = ({(item.kind, item.colour) for item in scene.items} for scene in scenes)
    alone = sorted(first ^ second)
    if not alone:
        return None
    kind, colour = alone[int(rng.integers(len(alone)))]
    image = 0 if (kind, colour) in first else 1
    answer = ANSWERS[language][image]
    boxes = tuple(item.box for item in scenes[image].items if (item.kind, item.colour) == (kind, colour))
    look = Look(0, len(answer), boxes, images=(image,) * len(boxes))
    return Exchange("which_has", language, fill(str(rng.choice(WHICH[language])), kind, colour), answer, (look,))


def _read(scenes: Sequence[Scene], language: str, rng: np.random.Generator) -> Exchange:
    image = int(rng.integers(2))
    scene = scenes[image]
    looks = tuple(Look(at, at + 1, (glyph.box,), images=(image,)) for at, glyph in enumerate(scene.glyphs))
    question = str(rng.choice(READ[language])).format(number=image + 1)
    return Exchange("read_in", language, question, scene.text, looks)


def _compare(scenes: Sequence[Scene], language: str, _: np.random.Generator) -> Exchange:
    """The kinds of which there are not as many."""
    answer, looks = "", []
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
            looks.append(Look(len(answer), end, boxes, counted=True, images=(image,) * len(items)))
            answer += str(len(items))
    same = "Nothing: there are as many of each kind" if language == "en" else "没有不同：每种数量都一样"
    question = find_task("compare").question("en" if language == "en" else "zh", TaskArguments())
    return Exchange("compare", language, question, (answer or same) + ("." if language == "en" else "。"), tuple(looks))


def _kind(scenes: Sequence[Scene], rng: np.random.Generator) -> str:
    """Rather a kind that is there often."""
    kinds = SHAPES if scenes[0].domain == "shapes" else KINDS
    counts = Counter(item.kind for scene in scenes for item in scene.items)
    weights = np.array([counts[kind] + 0.4 for kind in kinds])
    return str(rng.choice(kinds, p=weights / weights.sum()))


def _of(scene: Scene, kind: str) -> list[Item]:
    return [item for item in scene.items if item.kind == kind]


def _both(scenes: Sequence[Scene], kind: str) -> tuple[list[Item], tuple[int, ...]]:
    found = [(item, image) for image, scene in enumerate(scenes) for item in _of(scene, kind)]
    return [item for item, _ in found], tuple(image for _, image in found)
