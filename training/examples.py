"""The images in ``examples/``: held-out scenes, larger than the model's input, chosen by seed.

python -m training.examples OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from training.articles import articles_shelf
from training.scenes import HELD_OUT_SEED, Scene, draw_scene

SEEN = (256, 256)
EXAMPLES = {
    "shelf": ("shelf", (640, 640), 1107),
    "price_tag": ("tag", (512, 512), 7),
    "word": ("sign", (512, 512), 7),
    "shapes": ("shapes", (512, 512), 38),
    "shelf_two": ("shelf", (640, 640), 1110),
}
"""Name: domain, width and height in pixels, number of the scene."""
ARTICLES = "articles_shelf"


def example(name: str) -> Scene:
    """The scene of an example, with its ground truth."""
    domain, drawn, number = EXAMPLES[name]
    return held_out_scene(domain, drawn, number)


def held_out_scene(domain: str, drawn: tuple[int, int], number: int) -> Scene:
    """Draw a scene that neither training nor evaluation uses."""
    return draw_scene(domain, SEEN, np.random.default_rng([HELD_OUT_SEED + 1, number]), drawn=drawn)


def main(out: Path) -> None:
    """Write all examples as PNG."""
    out.mkdir(parents=True, exist_ok=True)
    for name in EXAMPLES:
        example(name).image.save(out / f"{name}.png", optimize=True)
    articles_shelf()[0].save(out / f"{ARTICLES}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
