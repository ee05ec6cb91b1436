"""Short clips: a few items on a plain background that turn another colour, appear, disappear or move.

A clip is drawn as the frames that Qwen3-VL's video processor samples, at the size to which it resizes them: the more
frames, the smaller each one, so that every clip has about a hundred visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from training.rendering import COLOURS, RGB, Box, draw_item, grey, vary
from training.scenes import KINDS, PIXEL_FACTOR, PROPORTIONS, Item, Scene, degrade
from vlrun.media.frame_sampling import fit_frames, pair_times, sample_frames
from vlrun.types.video_rules import VideoRules

CLIP_KINDS = ("circle", "triangle", *KINDS)
CHANGES = {"turn": 0.35, "appear": 0.15, "leave": 0.15, "move": 0.35}
"""What may happen to an item, each at most once in a clip, with its share."""
ALL_CHANGE_CHANCE = 0.6
"""Probability that every item changes; else one does."""

RULES = VideoRules(fps=2.0, min_frames=4, max_frames=12, min_pixels=1 << 17, max_pixels=1 << 18)
"""At most twelve frames and 128 visual tokens, so that a clip costs no more than two images."""
DURATION = (1.5, 20.0)
"""Shortest and longest clip in seconds; from six seconds on, the frames are more than half a second apart."""
SOURCE_FPS = (8, 10, 12, 15, 24, 25, 30)
SOURCES = ((640, 480), (1280, 720), (480, 480), (480, 640), (720, 1280), (320, 240))
"""Width and height of clips before they are resized."""

CELL_PIXELS, MAX_CELLS = 60, 3
"""Least side of the cell of an item, in pixels of the resized frame, and the most cells in a row or column."""
MAX_ACTORS = 3
ASPECTS = {kind: PROPORTIONS[kind][1] if kind in PROPORTIONS else 1.0 for kind in CLIP_KINDS}


@dataclass(frozen=True)
class Timing:
    """When the frames of a clip were taken, in seconds. ``shown``: frames before the last one is repeated."""

    seconds: tuple[float, ...]
    shown: int

    @property
    def pairs(self) -> tuple[float, ...]:
        """Time of each frame pair: the mean of both frames."""
        return tuple(pair_times(self.seconds))


@dataclass(frozen=True)
class Actor:
    """An item of a clip.

    Attributes:
        kind: One of ``CLIP_KINDS``.
        change: One of ``CHANGES``, or empty if it stays as it is.
        frame: The first frame that shows the change.
        steps: Number of frames in which it moves on; 1 for other changes.
        looks: The item in each frame; None where it is absent.
    """

    kind: str
    change: str
    frame: int
    steps: int
    looks: tuple[Item | None, ...]

    @property
    def pair(self) -> int:
        """The first frame pair that shows the change."""
        return self.frame // 2

    @property
    def moving_pairs(self) -> range:
        """The frame pairs in which it moves."""
        return range(self.frame // 2, (self.frame + self.steps - 1) // 2 + 1)

    def boxes(self, pair: int) -> tuple[Box, ...]:
        """Where it is in a frame pair; where it was if it has just disappeared."""
        frames = [2 * pair, 2 * pair + 1] if any(self.looks[2 * pair : 2 * pair + 2]) else [2 * pair - 1]
        return tuple(dict.fromkeys(item.box for frame in frames if (item := self.looks[frame])))


@dataclass(frozen=True)
class Clip:
    """A drawn clip: a scene for each frame, its items, and the times of the frames."""

    scenes: tuple[Scene, ...]
    actors: tuple[Actor, ...]
    timing: Timing

    @cached_property
    def by_change(self) -> dict[str, Actor]:
        """The item of each change."""
        return {actor.change: actor for actor in self.actors if actor.change}


def stamp(seconds: float) -> str:
    """The time of a frame pair as Qwen3-VL's processor writes it."""
    return f"{seconds:.1f}"


def draw_timing(rng: np.random.Generator) -> Timing:
    """Draw a duration and a frame rate, and sample the frames."""
    fps = int(rng.choice(SOURCE_FPS))
    seconds = float(np.exp(rng.uniform(*np.log(DURATION))))
    return sample_timing(round(seconds * fps), fps)


def sample_timing(frames: int, fps: float) -> Timing:
    """Sample the frames of a video; an odd last one is repeated."""
    indices = sample_frames(frames, fps, RULES)
    repeated = indices + indices[-1:] * (len(indices) % 2)
    return Timing(tuple(index / fps for index in repeated), len(indices))


def clip_size(source: tuple[int, int], frames: int) -> tuple[int, int]:
    """Width and height to which this many frames of this width and height are resized."""
    return fit_frames(frames, *source, PIXEL_FACTOR, RULES)


def draw_clip(size: tuple[int, int], timing: Timing, rng: np.random.Generator) -> Clip:
    """Draw a clip whose frames have this width and height."""
    columns, rows = (min(max(side // CELL_PIXELS, 1), MAX_CELLS) for side in size)
    most = min(MAX_ACTORS, columns * rows - 1)
    count = 1 + int(rng.choice(most, p=np.arange(1, most + 1) / np.arange(1, most + 1).sum()))
    many = count if rng.random() < ALL_CHANGE_CHANCE else 1
    changes = [str(change) for change in rng.choice(list(CHANGES), many, replace=False, p=list(CHANGES.values()))]
    kinds = rng.permutation(CLIP_KINDS)[:count]
    cells = [(int(cell) % columns, int(cell) // columns) for cell in rng.permutation(columns * rows)]
    actors = []
    for number, kind in enumerate(kinds):
        change = changes[number] if number < len(changes) else ""
        place = _cell_box(str(kind), cells[number], (columns, rows), size, rng)
        free = [cell for cell in cells[count:] if _adjacent(cell, cells[number])]
        if change == "move" and not free:
            change = ""
        goal = _shift(place, cells[number], free[0], (columns, rows)) if change == "move" else place
        actors.append(_actor(str(kind), change, (place, goal), timing, rng))
    drawn = _draw_frames(size, actors, len(timing.seconds), rng)
    return Clip(drawn, tuple(actors), timing)


def _adjacent(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1


def _cell_box(
    kind: str, cell: tuple[int, int], cells: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> Box:
    """Draw the box of an item inside its cell, in 0..1."""
    width, height = size[0] / cells[0], size[1] / cells[1]
    tall = min(height, width / max(ASPECTS[kind], 0.7)) * rng.uniform(0.68, 0.9)
    wide = tall * ASPECTS[kind]
    left = cell[0] * width + (width - wide) * rng.uniform(0.2, 0.8)
    top = cell[1] * height + (height - tall) * rng.uniform(0.2, 0.8)
    return left / size[0], top / size[1], (left + wide) / size[0], (top + tall) / size[1]


def _shift(box: Box, cell: tuple[int, int], goal: tuple[int, int], cells: tuple[int, int]) -> Box:
    """The box moved to the same place in another cell."""
    right, down = (goal[0] - cell[0]) / cells[0], (goal[1] - cell[1]) / cells[1]
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _actor(kind: str, change: str, way: tuple[Box, Box], timing: Timing, rng: np.random.Generator) -> Actor:
    """Draw the colours of an item and when its change happens."""
    before, after = (str(colour) for colour in rng.permutation(list(COLOURS))[:2])
    frame = int(rng.integers(1, timing.shown)) if change else 0
    steps = 1
    if change == "move":
        frame = int(rng.integers(1, timing.shown // 2))
        steps = int(rng.integers(2, timing.shown - frame + 1))
    looks: list[Item | None] = []
    for number in range(len(timing.seconds)):
        changed = number >= frame and bool(change)
        part = min(max((number - frame + 1) / steps, 0.0), 1.0)
        box = _between(*way, part) if change == "move" else way[0]
        there = changed if change == "appear" else not changed if change == "leave" else True
        colour = after if changed and change == "turn" else before
        looks.append(Item(kind, colour, box) if there else None)
    return Actor(kind, change, frame, steps, tuple(looks))


def _between(start: Box, end: Box, part: float) -> Box:
    left, top, right, bottom = (a + (b - a) * part for a, b in zip(start, end, strict=True))
    return left, top, right, bottom


def _draw_frames(
    size: tuple[int, int], actors: Sequence[Actor], frames: int, rng: np.random.Generator
) -> tuple[Scene, ...]:
    """Draw all frames at twice the size, and resize them; exposure and noise are those of one camera."""
    stretch = rng.uniform(0.93, 1.08)
    width, height = round(2 * size[0] * stretch), round(2 * size[1] / stretch)
    background, camera = grey(rng, 170, 250), int(rng.integers(1 << 31))
    tones = {colour: vary(COLOURS[colour], rng) for colour in COLOURS}
    scenes: list[Scene] = []
    for frame in range(frames):
        items = tuple(item for actor in actors if (item := actor.looks[frame]))
        if scenes and items == scenes[-1].items:
            scenes.append(scenes[-1])
            continue
        image = _draw_frame((width, height), items, background, tones).resize(size, Image.Resampling.BICUBIC)
        scenes.append(Scene("clip", degrade(image, np.random.default_rng(camera)), items))
    return tuple(scenes)


def _draw_frame(size: tuple[int, int], items: Sequence[Item], background: RGB, tones: dict[str, RGB]) -> Image.Image:
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    for item in items:
        left, top, right, bottom = item.box
        box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
        draw_item(draw, item.kind, tones[item.colour], box)
    return image
