"""Parts of an image at full resolution: one region of it, or tiles that cover it.

Knows how people write both, and what the parts' frames are; does not know the model, nor what becomes of the parts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vlrun.errors import OptionError
from vlrun.media.image import Image, made_from
from vlrun.media.transform import Matrix

THOUSANDTHS = "1000"
"""What stands behind the slash of a region in thousandths."""
MOST_ON_A_SIDE = 8
MOST_TILES = 16
LEAST_SIDE = 32
"""The shortest side of a tile: the model's own unit, below which there is nothing to see."""

_REGION_FORM = "a region is x,y,width,height in pixels, as 120,40,300,200, or in thousandths, as 0,333,1000,333/1000"
_TILES_FORM = (
    f"tiles are COLUMNSxROWS, as 1x3, each 1 to {MOST_ON_A_SIDE}, more than one tile and at most {MOST_TILES} in all"
)
# Nine digits are more than any image needs; \d would take the digits of other scripts too.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TILES = re.compile(r"\s*([0-9]{1,2})\s*[xX]\s*([0-9]{1,2})\s*")


@dataclass(frozen=True)
class Region:
    """A box in an image, of ``width`` and ``height`` from the corner at ``x`` (left) and ``y`` (top).

    In whole pixels, or with ``thousandths`` in those of the image's width and height (0 to 1000, decimals allowed).
    A region may reach beyond the image. Raises OptionError for other numbers.
    """

    x: float
    y: float
    width: float
    height: float
    thousandths: bool = False

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or 0 in (self.width, self.height):
            raise OptionError(f"a region begins at 0 or later and has a width and a height above 0: {_REGION_FORM}")
        if not self.thousandths and any(number != int(number) for number in numbers):
            raise OptionError(f"a region in pixels has whole numbers: {_REGION_FORM}")
        if self.thousandths and max(numbers) > 1000:
            raise OptionError(f"a region in thousandths has no number above 1000: {_REGION_FORM}")

    def __str__(self) -> str:
        text = ",".join(f"{number:.15g}" for number in (self.x, self.y, self.width, self.height))
        return f"{text}/{THOUSANDTHS}" if self.thousandths else text


def parse_region(text: str) -> Region:
    """A region from "x,y,width,height" in pixels, or with "/1000" after it in thousandths; spaces do not matter.

    Raises OptionError for all else, and says the expected form.
    """
    numbers, slash, whole = text.partition("/")
    parts = [part.strip() for part in numbers.split(",")]
    if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)) or (slash and whole.strip() != THOUSANDTHS):
        raise OptionError(f"'{text}' is not a region: {_REGION_FORM}")
    x, y, width, height = map(float, parts)
    return Region(x, y, width, height, thousandths=bool(slash))


def crop(image: Image, region: Region) -> Image:
    """The part of ``image`` in ``region``, clipped to the image, at full resolution.

    Thousandths are rounded outwards, to the pixels that the region touches. Raises OptionError if the region lies
    wholly outside.
    """
    width, height = image.size
    across, down = (width / 1000, height / 1000) if region.thousandths else (1, 1)
    left, right = _touched(region.x * across, (region.x + region.width) * across)
    top, bottom = _touched(region.y * down, (region.y + region.height) * down)
    if left >= width or top >= height:
        raise OptionError(f"the region {region} lies outside of the image, which has {width} x {height} pixels")
    return _part(image, left, top, min(right, width), min(bottom, height))


def _touched(begin: float, end: float) -> tuple[int, int]:
    """The pixels from ``begin`` to ``end``; what floating point adds to a whole number touches no further one."""
    return math.floor(round(begin, 6)), math.ceil(round(end, 6))


@dataclass(frozen=True)
class Tiles:
    """A grid of ``columns`` x ``rows`` tiles. Raises OptionError for a single tile, or for too many."""

    columns: int
    rows: int

    def __post_init__(self) -> None:
        sides = (self.columns, self.rows)
        if min(sides) < 1 or max(sides) > MOST_ON_A_SIDE or not 1 < self.columns * self.rows <= MOST_TILES:
            raise OptionError(f"'{self}' is no grid of tiles: {_TILES_FORM}")

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}"


def parse_tiles(text: str) -> Tiles:
    """Tiles from "COLUMNSxROWS", as "1x3". Raises OptionError for all else, and says the expected form."""
    found = _TILES.fullmatch(text)
    if not found:
        raise OptionError(f"'{text}' is no grid of tiles: {_TILES_FORM}")
    return Tiles(int(found[1]), int(found[2]))


def cut_tiles(image: Image, tiles: Tiles) -> tuple[Image, ...]:
    """The tiles of ``image`` in reading order, at full resolution; together they hold each pixel once.

    Raises OptionError if a tile would have a side of less than 32 pixels.
    """
    width, height = image.size
    if width // tiles.columns < LEAST_SIDE or height // tiles.rows < LEAST_SIDE:
        raise OptionError(
            f"{tiles} tiles of an image of {width} x {height} pixels would be {width // tiles.columns} x "
            f"{height // tiles.rows}, and a side has at least {LEAST_SIDE}"
        )
    across = [width * column // tiles.columns for column in range(tiles.columns + 1)]
    down = [height * row // tiles.rows for row in range(tiles.rows + 1)]
    return tuple(
        _part(image, across[column], down[row], across[column + 1], down[row + 1])
        for row in range(tiles.rows)
        for column in range(tiles.columns)
    )


def _part(image: Image, left: int, top: int, right: int, bottom: int) -> Image:
    moved: Matrix = (1.0, 0.0, float(left), 0.0, 1.0, float(top))
    return made_from(image, image.rgb[top:bottom, left:right], moved)
