"""Draws what the rows of a batch contain: scenes, questions, tools, system prompts, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from PIL import Image as PILImage

from training.clip_questions import clip_questions
from training.clips import SOURCES, Clip, clip_size, draw_clip, draw_timing
from training.copy_questions import copy_question
from training.easy_vqa import EasyVQAImage
from training.pair_questions import PAIR_DOMAINS, pair_questions
from training.prompt_forms import OPENINGS, draw_system
from training.qa import QAPair, Turns
from training.scene_questions import qa_pairs
from training.scenes import Scene, draw_scene
from training.task_questions import locate_question, task_questions
from training.templates import SELF
from training.tool_definitions import Toolset
from training.tool_questions import draw_toolset_for, tool_conversations

DOMAINS = {"shelf": 0.46, "shapes": 0.11, "easy": 0.11, "tag": 0.13, "sign": 0.19}
MAX_QUESTIONS = 12
TASKS_SHARE = 0.35
LOCATE_CHANCE, TURNS_CHANCE = 0.4, 0.3
"""Probability that a question is one of a task, that a row begins with boxes, and that it has a conversation."""
PAIR_CHANCE = 0.16
"""Share of batches with pairs of images."""
TOOLS_CHANCE = 0.3
"""Share of batches with tools before the image; they have half as many images, because their rows are long."""
TOOLS_DOMAINS = {"shelf": 0.5, "shapes": 0.1, "tag": 0.2, "sign": 0.2}
TOOLS = (0.75, 0.2, 0.05)
"""Probability of one, two and three tools."""
TEXT_FIRST_CHANCE = 0.35
"""Share of batches with the question before the image; they have half as many images."""
TEXT_FIRST_ROWS = 3
"""Rows about one image in such a batch: a question before the image has a row of its own."""
TEXT_FIRST_CHARACTERS = 120
"""Longest conversation in such a row: all rows of a batch are as long as its longest, so long ones cost too much. The
questions of tasks are longer; vlrun itself asks them after the image."""
SYSTEM_CHANCE, OPENING_CHANCE = 0.5, 0.08
"""Probability that a row has a system prompt, and a sentence before an image that precedes its questions."""
CLIP_TEXT_FIRST_CHANCE = 0.15
"""Share of batches of clips with the question before the clip."""
SELF_CHANCE = 0.04
COPY_CHANCE = 0.3
"""Probability that a row asks who the model is, or for a copy of a page, without the image."""


@dataclass(frozen=True)
class Asked:
    """A conversation: its turns, whether it attends to the images, and if not, its own system prompt."""

    turns: Turns
    sees_images: bool = True
    system: str = ""


@dataclass(frozen=True)
class RowContents:
    """Contents of a row.

    Attributes:
        scenes: Its images, or the frames of its clip.
        asked: Its conversations, as many as fit.
        toolset: Tools and system prompt before the images.
        before_image: User text before the first image.
        text_first: Whether that text is the first question of the only conversation.
        clip: What the frames show, and when.
    """

    scenes: list[Scene]
    asked: Sequence[Asked]
    toolset: Toolset | None = None
    before_image: str = ""
    text_first: bool = False
    clip: Clip | None = None


def draw_rows(
    rng: np.random.Generator,
    easy: Sequence[EasyVQAImage],
    images: int,
    size: tuple[int, int],
    domain: str | None = None,
    *,
    text_first: bool | None = None,
) -> tuple[list[RowContents], int]:
    """Draw the rows of a batch of at most ``images`` images, all of one kind.

    Args:
        rng: Source of the choices.
        easy: The images of easy-VQA.
        images: Number of images.
        size: Their width and height.
        domain: A domain, ``pair`` or ``tools``; drawn if None.
        text_first: Whether the questions precede the images; drawn if None.

    Returns:
        The rows, and how many successive ones are about the same images.
    """
    kind = rng.random() if domain is None else 1.0
    if text_first is None:
        text_first = rng.random() < TEXT_FIRST_CHANCE
    images = max(images // 2, 2) if text_first else images
    if domain == "tools" or kind < TOOLS_CHANCE:
        rows = _draw_with_tools(rng, images // 2, size)
    elif domain == "pair" or kind < TOOLS_CHANCE + (1 - TOOLS_CHANCE) * PAIR_CHANCE:
        rows = [_draw_pair(size, rng) for _ in range(images // 2)]
    else:
        rows = [_draw(domain or _one_of(DOMAINS, rng), size, rng, easy) for _ in range(images)]
    if text_first:
        return [one for row in rows for one in _text_first(row, rng)], TEXT_FIRST_ROWS
    return [_image_first(row, rng) for row in rows], 1


def draw_clip_rows(
    rng: np.random.Generator, clips: int, *, text_first: bool | None = None
) -> tuple[list[RowContents], int]:
    """Draw the rows of a batch of at most ``clips`` clips of one size and with the same times.

    Returns:
        The rows, and how many successive ones are about the same clip.
    """
    if text_first is None:
        text_first = rng.random() < CLIP_TEXT_FIRST_CHANCE
    timing = draw_timing(rng)
    size = clip_size(SOURCES[int(rng.integers(len(SOURCES)))], timing.shown)
    rows = []
    for _ in range(max(clips // 2, 2) if text_first else clips):
        clip = draw_clip(size, timing, rng)
        asked = [Asked((qa,)) for qa in islice(clip_questions(clip, rng), MAX_QUESTIONS)]
        rows.append(RowContents(list(clip.scenes), asked, clip=clip))
    if text_first:
        return [one for row in rows for one in _text_first(row, rng)], TEXT_FIRST_ROWS
    return [_image_first(row, rng) for row in rows], 1


def _text_first(row: RowContents, rng: np.random.Generator) -> Iterator[RowContents]:
    """Split a row: some of its conversations have rows of their own, with the first question before the images."""
    chosen = sorted((row.asked[index] for index in rng.permutation(len(row.asked))), key=_is_long)
    for number in range(TEXT_FIRST_ROWS):
        asked = chosen[number % len(chosen)]
        question = asked.turns[0].question
        yield replace(_with_system(row, rng), asked=(asked,), before_image=question, text_first=True)


def _is_long(asked: Asked) -> bool:
    return sum(len(turn.question) + len(turn.answer) for turn in asked.turns) > TEXT_FIRST_CHARACTERS


def _image_first(row: RowContents, rng: np.random.Generator) -> RowContents:
    """Add a sentence before the images to some rows, and conversations without images to rows of images alone."""
    opening = str(rng.choice(OPENINGS)) if rng.random() < OPENING_CHANCE else ""
    asked = row.asked if row.toolset or row.clip else [*_without_images(rng), *row.asked]
    return replace(_with_system(row, rng), asked=asked, before_image=opening)


def _with_system(row: RowContents, rng: np.random.Generator) -> RowContents:
    """Add a system prompt to some rows that have none."""
    toolset = row.toolset or Toolset(())
    if toolset.system or rng.random() >= SYSTEM_CHANCE:
        return row
    return replace(row, toolset=replace(toolset, system=draw_system(rng)))


def _without_images(rng: np.random.Generator) -> Iterator[Asked]:
    def system() -> str:
        return draw_system(rng) if rng.random() < SYSTEM_CHANCE / 2 else ""

    if rng.random() < SELF_CHANCE:
        language = "en" if rng.random() < 0.5 else "zh"
        questions, answer = SELF[language]
        yield Asked((QAPair("self", language, str(rng.choice(questions)), answer),), False, system())
    if rng.random() < COPY_CHANCE:
        yield Asked((copy_question(rng),), False, system())
        yield Asked((copy_question(rng, lines=1),), False)


def _draw_with_tools(rng: np.random.Generator, rows: int, size: tuple[int, int]) -> list[RowContents]:
    """Draw scenes with the same number of tools each."""
    tools = 1 + int(rng.choice(len(TOOLS), p=TOOLS))
    drawn = []
    for _ in range(rows):
        scene = draw_scene(_one_of(TOOLS_DOMAINS, rng), size, rng)
        toolset = draw_toolset_for(scene, tools, rng)
        asked = [Asked(turns) for turns in islice(tool_conversations(scene, toolset, rng), MAX_QUESTIONS)]
        drawn.append(RowContents([scene], asked, toolset))
    return drawn


def _draw(domain: str, size: tuple[int, int], rng: np.random.Generator, easy: Sequence[EasyVQAImage]) -> RowContents:
    if domain == "easy":
        image = easy[int(rng.integers(len(easy)))]
        resample = PILImage.Resampling.NEAREST if rng.random() < 0.3 else PILImage.Resampling.BICUBIC
        scene = Scene("easy", image.image.resize(size, resample))
        chosen = rng.permutation(len(image.qa_pairs))[:MAX_QUESTIONS]
        return RowContents([scene], [Asked((image.qa_pairs[index],)) for index in chosen])
    scene = draw_scene(domain, size, rng)
    plain, tasks = qa_pairs(scene, rng), task_questions(scene, rng)
    asked: list[Turns] = [(next(plain),) for _ in range(MAX_QUESTIONS)]
    for place in np.flatnonzero(rng.random(MAX_QUESTIONS) < TASKS_SHARE):
        asked[place] = next(tasks)
    if scene.items and rng.random() < LOCATE_CHANCE:  # first, because lists of boxes are long
        asked.insert(0, locate_question(scene, rng))
    if rng.random() < TURNS_CHANCE:
        asked.insert(int(rng.integers(3)), tuple(islice(plain, int(rng.integers(2, 5)))))
    return RowContents([scene], [Asked(turns) for turns in asked])


def _draw_pair(size: tuple[int, int], rng: np.random.Generator) -> RowContents:
    domain = _one_of(PAIR_DOMAINS, rng)
    scenes = [draw_scene(domain, size, rng) for _ in range(2)]
    return RowContents(scenes, [Asked((qa,)) for qa in islice(pair_questions(scenes, rng), MAX_QUESTIONS)])


def _one_of(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))
