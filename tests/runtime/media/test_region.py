"""Regions and tiles: notation, pixels, and coordinates in the original."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vlrun.errors import OptionError
from vlrun.media.image import Image, open_image
from vlrun.media.region import Region, Tiles, crop, cut_tiles, parse_region, parse_tiles


def noise(width: int, height: int) -> Image:
    return open_image(np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("120,40,300,200", Region(120, 40, 300, 200)),
        (" 0, 0 ,1 , 1 ", Region(0, 0, 1, 1)),
        ("0,333.3,1000,333.4/1000", Region(0, 333.3, 1000, 333.4, thousandths=True)),
        ("1234567,0,98765432,1", Region(1234567, 0, 98765432, 1)),
        ("0, 0, 500, 500 / 1000", Region(0, 0, 500, 500, thousandths=True)),
    ],
)
def test_both_notations_are_parsed(text: str, region: Region) -> None:
    """A region also prints in the notation that it parses."""
    assert parse_region(text) == region
    assert parse_region(str(region)) == region


@pytest.mark.parametrize(
    "text",
    [
        *("", "1,2,3", "1,2,3,4,5", "1,2,3,", "a,b,c,d", "1;2;3;4", "-1,0,5,5", "0,0,0,5", "0,0,5,0", "0,0,5,-5"),
        *("nan,0,5,5", "0,0,inf,5", "0,0,1e3,5", "1.5,0,5,5", "٣,0,5,5", "0,0,5,5/100", "0,0,5,5/", "0,0,5,5/1000/1"),
        *("0,0,1001,5/1000", "0,0,0,5/1000", "0,0,5," + "9" * 5000),
    ],
)
def test_invalid_regions_are_refused_with_the_expected_notation(text: str) -> None:
    with pytest.raises(OptionError, match="x,y,width,height in pixels"):
        parse_region(text)


@pytest.mark.parametrize("numbers", [(math.nan, 0, 5, 5), (0, 0, math.inf, 5), (0, 0, 5, 0), (-1, 0, 5, 5)])
def test_regions_created_in_python_are_checked(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(OptionError):
        Region(*numbers)


def test_crop_takes_the_pixels_and_maps_to_the_original() -> None:
    image = noise(90, 60)
    part = crop(image, Region(10, 20, 30, 25))
    np.testing.assert_array_equal(part.rgb, image.rgb[20:45, 10:40])
    assert part.sha256 == open_image(image.rgb[20:45, 10:40]).sha256
    assert part.to_original.point(1, 2) == (11, 22)
    deeper = crop(part, Region(5, 6, 10, 10))
    assert deeper.to_original.size == (90, 60)
    assert deeper.to_original.box(0, 0, 10, 10) == (15, 26, 25, 36)


def test_thousandths_are_rounded_outwards() -> None:
    """A region contains each pixel that it touches; rounding errors add none."""
    image = noise(90, 60)
    assert crop(image, parse_region("0,333,1000,333/1000")).rgb.shape == (21, 90, 3)
    assert crop(image, parse_region("500,500,0.1,0.1/1000")).size == (1, 1)
    assert crop(noise(1000, 100), parse_region("100.1,0,200.9,1000/1000")).size == (201, 100)


def test_regions_are_clipped_to_the_image_and_refused_outside_it() -> None:
    image = noise(90, 60)
    assert crop(image, Region(80, 50, 999999999, 100)).size == (10, 10)
    for text in ("90,0,5,5", "0,60,5,5", "1000,0,5,5/1000"):
        with pytest.raises(OptionError, match="which has 90 x 60 pixels"):
            crop(image, parse_region(text))


def test_crops_keep_the_notes() -> None:
    image = Image(noise(64, 64).rgb, "0" * 64, notes=("only the first frame is used",))
    assert crop(image, Region(0, 0, 5, 5)).notes == image.notes


@pytest.mark.parametrize("text", ["", "3", "1x1", "0x3", "9x1", "5x4", "1x3x2", "-1x3", "1,3", "1.5x2", "111x1", "axb"])
def test_invalid_tiles_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="COLUMNSxROWS"):
        parse_tiles(text)


@pytest.mark.parametrize("text", ["1x3", "2x2", " 3 X 5 ", "8x2"])
def test_tiles_cover_every_pixel_once_in_reading_order(text: str) -> None:
    """Also where sides do not divide evenly."""
    image, tiles = noise(401, 307), parse_tiles(text)
    covered = np.zeros((307, 401), int)
    corners = []
    for part in cut_tiles(image, tiles):
        left, top, right, bottom = (round(edge) for edge in part.to_original.box(0, 0, *part.size))
        np.testing.assert_array_equal(part.rgb, image.rgb[top:bottom, left:right])
        covered[top:bottom, left:right] += 1
        corners.append((top, left))
    assert (covered == 1).all()
    assert corners == sorted(corners)
    assert len(corners) == tiles.columns * tiles.rows


def test_tiles_that_would_be_too_small_are_refused() -> None:
    assert len(cut_tiles(noise(64, 32), Tiles(2, 1))) == 2
    with pytest.raises(OptionError, match="would be 31 x 64"):
        cut_tiles(noise(63, 64), Tiles(2, 1))
