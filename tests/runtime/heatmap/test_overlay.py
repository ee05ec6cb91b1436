"""Heat maps over images, checked in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from vlrun.errors import OptionError
from vlrun.heatmap.overlay import INFERNO, MAX_SIDE, overlay_heat
from vlrun.media.image import Image, open_image
from vlrun.tasks.drawing import luminance


def plain(width: int, height: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Image:
    return open_image(np.full((height, width, 3), colour, np.uint8))


def noise(width: int, height: int) -> Image:
    return open_image(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


HOT_CORNER = np.pad(np.ones((1, 1), np.float32), ((0, 15), (0, 23)))


def test_heat_is_drawn_at_its_cell() -> None:
    """Guards against swapped axes and dark borders."""
    shown = np.asarray(overlay_heat(plain(480, 320), HOT_CORNER)).astype(int)
    assert shown.shape == (320, 480, 3)
    assert shown[0, 0].min() > 100
    assert shown[0, 0, 0] > 200
    assert np.ptp(shown[200:, 300:].reshape(-1, 3), 0).max() == 0
    np.testing.assert_array_equal(shown, np.asarray(overlay_heat(plain(480, 320), HOT_CORNER * 1e-30)))


def test_uniform_heat_gives_a_uniform_image() -> None:
    """Resizing must not darken or lighten the borders."""
    assert len(np.unique(np.asarray(overlay_heat(plain(333, 77), np.full((3, 9), 5, np.float32))))) <= 3


def test_the_image_stays_visible_under_heat() -> None:
    """Light areas stay lighter, even at the highest value."""
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    shown = np.asarray(overlay_heat(open_image(halves), np.ones((4, 4), np.float32))).astype(int)
    assert shown[10, 50].sum() > shown[10, 10].sum() + 60


def test_colours_increase_in_lightness() -> None:
    """For colour-blind readers and grey printers."""
    light = [luminance((int(r), int(g), int(b))) for r, g, b in INFERNO]
    assert light == sorted(set(light))


def test_zero_heat_keeps_the_image() -> None:
    """Guards against a division by zero."""
    image = noise(100, 50)
    np.testing.assert_array_equal(np.asarray(overlay_heat(image, np.zeros((3, 3), np.float32))), image.rgb)


def test_the_overlay_is_limited_in_size() -> None:
    assert overlay_heat(plain(5000, 500), HOT_CORNER).size == (MAX_SIDE, 205)


@pytest.mark.parametrize(
    "heat", [np.full((2, 2), np.nan), np.full((2, 2), np.inf), -np.ones((2, 2)), np.ones(4), np.ones((0, 4))]
)
def test_invalid_heat_is_refused(heat: np.typing.NDArray[np.float64]) -> None:
    with pytest.raises(OptionError, match="a heat map has"):
        overlay_heat(plain(10, 10), heat.astype(np.float32))


def test_the_input_image_is_unchanged() -> None:
    """Guards the cached image: drawing on it would change the next answer."""
    image = plain(100, 100)
    overlay_heat(image, np.ones((4, 4), np.float32)).paste((1, 2, 3), (0, 0, 50, 50))
    overlay_heat(image, np.zeros((4, 4), np.float32)).paste((1, 2, 3), (0, 0, 50, 50))
    assert (image.rgb == 128).all()
