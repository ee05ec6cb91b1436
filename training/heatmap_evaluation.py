"""Measures on held-out shelves whether the heat map of an answer lies on the item asked about, compared with chance.

python -m training.heatmap_evaluation [MODEL] [--scenes N]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

import vlrun
from training.rendering import Box
from training.scenes import HELD_OUT_SEED, Item, Scene, draw_scene

SCENES = 100
SIZE, DRAWN = (288, 256), (720, 640)
QUESTIONS = ("Where is the {colour} {kind}?", "What color is the {kind}?", "Is there a {colour} {kind}?")
OPTIONS = vlrun.Options(temperature=0, max_tokens=64, heatmap=True)


@dataclass(frozen=True)
class HeatmapScore:
    """The heat map of one question, or the mean of several.

    ``share``: part of the heat on the item and half a token around it; ``hottest``: whether the hottest token lies
    there; ``chance``: that area's part of the image, which both would equal by chance.
    """

    share: float
    hottest: float
    chance: float


def measure_heatmap(vlm: vlrun.VLM, question: str, scenes: int) -> HeatmapScore:
    """Mean over ``scenes`` held-out shelves."""
    scores = [_score(vlm, scene, item, question) for scene, item in islice(_single_items(), scenes)]
    share, hottest, chance = np.mean([(one.share, one.hottest, one.chance) for one in scores], 0)
    return HeatmapScore(float(share), float(hottest), float(chance))


def _single_items() -> Iterator[tuple[Scene, Item]]:
    """Held-out shelves, each with an item that is the only one of its kind."""
    for number in count():
        rng = np.random.default_rng([HELD_OUT_SEED + 3, number])
        scene = draw_scene("shelf", SIZE, rng, drawn=DRAWN)
        kinds = [item.kind for item in scene.items]
        single = [item for item in scene.items if kinds.count(item.kind) == 1]
        if single:
            yield scene, single[0]


def _score(vlm: vlrun.VLM, scene: Scene, item: Item, question: str) -> HeatmapScore:
    answer = vlm.ask([scene.image], question.format(colour=item.colour, kind=item.kind).replace("a o", "an o"), OPTIONS)
    if answer.heat is None:
        raise RuntimeError("the answer has no heat")
    heat = answer.heat.mean()
    inside = _covered(item.box, heat.shape[0], heat.shape[1])
    return HeatmapScore(float(heat[inside].sum() / heat.sum()), float(inside.flat[heat.argmax()]), float(inside.mean()))


def _covered(box: Box, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Tokens whose centre lies in the box or half a token around it."""
    left, top, right, bottom = box
    x, y = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    across = (x >= left - 0.5 / columns) & (x <= right + 0.5 / columns)
    down = (y >= top - 0.5 / rows) & (y <= bottom + 0.5 / rows)
    return np.outer(down, across)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Measure heat maps on held-out shelves.")
    parser.add_argument("model", type=Path, nargs="?", help="a model folder (default: the embedded one)")
    parser.add_argument("--scenes", type=int, default=SCENES)
    options = parser.parse_args(arguments)
    print("| question | heat on the item | hottest token on it | by chance |\n| --- | --- | --- | --- |")
    with vlrun.load(options.model) as vlm:
        for question in QUESTIONS:
            score = measure_heatmap(vlm, question, options.scenes)
            print(f"| {question} | {score.share:.0%} | {score.hottest:.0%} | {score.chance:.1%} |")


if __name__ == "__main__":
    main()
