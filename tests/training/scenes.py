"""Scenes for several tests."""

from __future__ import annotations

import re
from functools import cache
from itertools import islice

import numpy as np

from training.clips import SOURCES, Clip, clip_size, draw_clip, draw_timing
from training.qa import QAPair, Turns
from training.scene_questions import qa_pairs
from training.scenes import (
    KINDS,
    Scene,
    draw_scene,
)
from training.templates import ZH, plural
from training.tool_definitions import Toolset
from training.tool_questions import draw_toolset_for, tool_conversations

SIZE = (256, 192)
SEEDS = range(25)
DOMAINS = ("shelf", "shapes", "tag", "sign")


def scene(domain: str, seed: int) -> Scene:
    return draw_scene(domain, SIZE, np.random.default_rng(seed))


@cache
def clip(seed: int) -> Clip:
    """Draw a clip of one of the sizes, in turn."""
    rng = np.random.default_rng(seed)
    timing = draw_timing(rng)
    return draw_clip(clip_size(SOURCES[seed % len(SOURCES)], timing.shown), timing, rng)


def questions_of(scene: Scene, task: str) -> list[QAPair]:
    found = islice(qa_pairs(scene, np.random.default_rng(7)), 60)
    return [qa for qa in found if qa.task == task]


def named_kind(question: str, names: dict[str, tuple[str, str]]) -> str | None:
    """Return the one kind whose English or Chinese name a question contains."""
    found = [name for name, forms in names.items() if any(re.search(form, question) for form in forms)]
    return found[0] if len(found) == 1 else None


KIND_NAMES = {kind: (rf"\b{plural(kind)}\b", ZH[kind]) for kind in KINDS}


def draw_with_tools(domain: str, seed: int, tools: int = 1) -> tuple[Scene, Toolset, list[Turns]]:
    """Draw a scene, tools for it, and conversations with them."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(domain, SIZE, rng)
    toolset = draw_toolset_for(scene, tools, rng)
    return scene, toolset, list(islice(tool_conversations(scene, toolset, rng), 8))
