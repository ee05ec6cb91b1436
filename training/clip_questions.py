"""Questions about a clip with their true answers, in English and Chinese.

An answer about a time is the time of the first frame pair that shows the change, as the prompt has it: at most half an
interval between frames from the first frame that shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.clips import Actor, Clip, stamp
from training.qa import AttentionTarget, QAPair
from training.templates import ZH

NAMES = {"circle": "ball"}
ZH_NAMES = {"circle": "球", "triangle": "三角形"}

CLIP_TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "clip_turn": {
        "en": (
            "When does the {name} turn {colour}?", "When does the {name} become {colour}?",
            "At what time does the {name} turn {colour}?", "When does the {name} change its color?",
        ),
        "zh": ("{zh}什么时候变成{zhcolour}？", "{zh}在第几秒变成{zhcolour}？", "{zh}什么时候变色？"),
    },
    "clip_appear": {
        "en": ("When does the {name} appear?", "At what time does the {name} appear?", "When does a {name} appear?"),
        "zh": ("{zh}什么时候出现？", "{zh}在第几秒出现？"),
    },
    "clip_leave": {
        "en": ("When does the {name} disappear?", "At what time does the {name} disappear?"),
        "zh": ("{zh}什么时候消失？", "{zh}在第几秒消失？"),
    },
    "clip_moves": {
        "en": ("What moves?", "What is moving?", "Which thing moves?", "What moves in the video?"),
        "zh": ("什么在动？", "什么东西在移动？", "视频里什么在动？"),
    },
    "clip_changes": {
        "en": ("What changes its color?", "What changes color?", "Which thing changes its color?"),
        "zh": ("什么变色了？", "什么东西变了颜色？"),
    },
    "clip_first_colour": {
        "en": ("What color is the {name} at the start?", "What color is the {name} at first?"),
        "zh": ("{zh}一开始是什么颜色？",),
    },
    "clip_last_colour": {
        "en": ("What color is the {name} at the end?", "What color is the {name} in the end?"),
        "zh": ("{zh}最后是什么颜色？",),
    },
}  # fmt: skip
NOTHING = {"en": "nothing", "zh": "没有"}
SECONDS = {"en": "{} seconds", "zh": "{}秒"}
NOTHING_CHANCE = 0.3
"""Probability that a clip without a moving item is asked what moves."""
TIMES = ("clip_turn", "clip_appear", "clip_leave")
"""Tasks whose answer is a time."""
ENGLISH_CHANCE = 0.6


def clip_questions(clip: Clip, rng: np.random.Generator) -> Iterator[QAPair]:
    """Yield questions about the clip endlessly: in random order, all possible ones equally often."""
    asked = _possible(clip, rng)
    while True:
        for index in rng.permutation(len(asked)):
            task, actor = asked[index]
            yield _ask(task, actor, clip, "en" if rng.random() < ENGLISH_CHANCE else "zh", rng)


def _possible(clip: Clip, rng: np.random.Generator) -> list[tuple[str, Actor | None]]:
    """The tasks that fit the clip, each with the item that it is about; one that is about a change counts twice."""
    changes = clip.by_change
    asked: list[tuple[str, Actor | None]] = []
    for change, task in (("turn", "clip_turn"), ("appear", "clip_appear"), ("leave", "clip_leave")):
        asked += [(task, changes[change])] * 2 if change in changes else []
    if "move" in changes or rng.random() < NOTHING_CHANCE:
        asked += [("clip_moves", changes.get("move"))] * 2
    asked += [("clip_changes", changes["turn"])] if "turn" in changes else []
    one = clip.actors[int(rng.integers(len(clip.actors)))]
    chosen = changes["turn"] if "turn" in changes and rng.random() < 0.5 else one
    return asked + [
        (task, chosen) for task, frame in (("clip_first_colour", 0), ("clip_last_colour", -1)) if chosen.looks[frame]
    ]


def _ask(task: str, actor: Actor | None, clip: Clip, language: str, rng: np.random.Generator) -> QAPair:
    template = str(rng.choice(CLIP_TEMPLATES[task][language]))
    if actor is None:
        answer = NOTHING[language]
        return QAPair(task, language, template, answer, (AttentionTarget(0, len(answer), (), counted=True),))
    colour = _colour(actor, 0 if task == "clip_first_colour" else -1)
    name, zh = NAMES.get(actor.kind, actor.kind), ZH_NAMES.get(actor.kind) or ZH[actor.kind]
    question = template.format(name=name, zh=zh, colour=colour, zhcolour=ZH[colour])
    answer = name if language == "en" else zh
    pairs: Sequence[int] = (actor.pair,)
    if task in TIMES:
        time = stamp(clip.timing.pairs[actor.pair])
        target = _target(actor, pairs, len(time))
        return QAPair(task, language, question, SECONDS[language].format(time), (target,))
    if task in ("clip_first_colour", "clip_last_colour"):
        answer = colour if language == "en" else ZH[colour]
        pairs = (0,) if task == "clip_first_colour" else (len(clip.timing.pairs) - 1,)
    elif task == "clip_moves":
        pairs = actor.moving_pairs
    return QAPair(task, language, question, answer, (_target(actor, pairs, len(answer)),))


def _colour(actor: Actor, frame: int) -> str:
    """Its colour in a frame, or the only one that it ever has."""
    looks = [item for item in actor.looks if item]
    return (actor.looks[frame] or looks[0]).colour


def _target(actor: Actor, pairs: Sequence[int], end: int) -> AttentionTarget:
    """Attention to the item in some frame pairs while the first ``end`` characters of the answer are generated."""
    boxes = [(box, pair) for pair in pairs for box in actor.boxes(pair)]
    return AttentionTarget(0, end, tuple(box for box, _ in boxes), images=tuple(pair for _, pair in boxes))
