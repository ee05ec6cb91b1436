"""``--enhance`` improves bad photos, leaves good ones unchanged, and keeps the map to the original."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.paths import EXAMPLES
from vlrun.media.enhance import enhance
from vlrun.media.image import open_image

NAMES = ("shelf", "price_tag", "word", "shapes", "articles_shelf")


def tilted(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(180, 180, 180))


FAULTS: dict[str, tuple[Callable[[Image.Image], Image.Image], str, float]] = {
    "dark": (lambda image: image.point(lambda level: level // 4), "brightened", 0.5),
    "blurry": (lambda image: image.filter(ImageFilter.GaussianBlur(3)), "sharpened", 0.93),
    "tilted": (tilted(5), "rotated by -5.0 degrees", 0.5),
    "tilted a little": (tilted(-2.4), "rotated by 2.4 degrees", 0.5),
}


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_faults_is_unchanged(name: str) -> None:
    image = open_image(EXAMPLES / f"{name}.png")
    assert enhance(image) is image


DAMAGED = list(zip(NAMES, itertools.cycle(FAULTS), strict=False)) + list(zip(NAMES, [*FAULTS][2:], strict=False))
"""Each image with a fault, each fault in an image, and both tilts in another one."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), DAMAGED)
def test_a_fault_is_detected_and_corrected(name: str, fault: str) -> None:
    """The note names the correction, and the image is closer to the original than before."""
    damage, word, limit = FAULTS[fault]
    original = Image.open(EXAMPLES / f"{name}.png").convert("RGB")
    bad = open_image(damage(original))
    better = enhance(bad)
    assert word in better.notes[-1]
    assert distance(better.rgb, np.asarray(original)) < limit * distance(bad.rgb, np.asarray(original))


def test_a_dark_blurry_and_tilted_image_is_corrected_in_one_pass() -> None:
    """Tilt is measured in the dark image, blur after brightening."""
    original = Image.open(EXAMPLES / "shelf.png").convert("RGB")
    bad = tilted(4)(original).point(lambda level: level // 4).filter(ImageFilter.GaussianBlur(3))
    notes = enhance(open_image(bad)).notes[-1]
    assert notes == "the image was rotated by -4.0 degrees and brightened and sharpened"


def test_marks_on_a_rotated_image_map_to_the_original() -> None:
    original = Image.open(EXAMPLES / "shelf.png").convert("RGB")
    marked = original.copy()
    marked.paste((255, 0, 255), (500, 100, 506, 106))
    bad = tilted(5)(marked)
    enhanced = enhance(open_image(bad))
    pink = np.argwhere(np.abs(enhanced.rgb.astype(int) - (255, 0, 255)).sum(-1) < 120).mean(0)[::-1]
    x, y = enhanced.to_original.point(*(pink + 0.5))
    expected = np.argwhere(np.abs(np.asarray(bad).astype(int) - (255, 0, 255)).sum(-1) < 120).mean(0)[::-1]
    assert np.abs(np.array([x, y]) - (expected + 0.5)).max() < 2


@pytest.mark.parametrize("size", [(1, 1), (31, 31), (300, 40), (64, 64)])
def test_uniform_and_tiny_images_are_unchanged(size: tuple[int, int]) -> None:
    """Guards against percentiles of empty arrays."""
    for level in (0, 77, 255):
        image = open_image(np.full((size[1], size[0], 3), level, np.uint8))
        assert enhance(image) is image


@pytest.mark.slow
def test_a_phone_photo_takes_less_than_20_seconds() -> None:
    """Guards against measuring every angle on all 12 megapixels."""
    photo = Image.open(EXAMPLES / "shelf.png").convert("RGB").resize((4000, 3000))
    bad = open_image(tilted(4)(photo).point(lambda level: level // 3))
    began = time.process_time()
    assert "rotated" in enhance(bad).notes[-1]
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("ground", "disc"),
    [((245, 245, 240), (240, 210, 40)), ((128, 128, 128), (140, 50, 170)), ((230, 230, 230), (90, 20, 20))],
)
def test_colours_keep_their_hue(ground: tuple[int, int, int], disc: tuple[int, int, int]) -> None:
    """Levels computed from the grey image turned a yellow disc on white orange."""
    image = Image.new("RGB", (400, 400), ground)
    ImageDraw.Draw(image).ellipse((150, 150, 250, 250), fill=disc)
    assert tuple(enhance(open_image(image)).rgb[200, 200]) == disc
