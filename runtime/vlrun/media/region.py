"""Crops images to regions and cuts them into tiles, at full resolution; parses both from text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vlrun.errors import OptionError
from vlrun.media.image import Image, derive_image
from vlrun.media.transform import Matrix
from vlrun.types.arguments import check_fields, flag, instance, number, whole_number

THOUSANDTHS = "1000"
"""What follows the slash of a region in thousandths."""
MAX_TILES_PER_SIDE = 8
MAX_TILES = 16
MIN_SIDE = 32
"""Minimum side of a tile in pixels: one visual token."""

_REGION_FORM = "a region is x,y,width,height in pixels, as 120,40,300,200, or in thousandths, as 0,333,1000,333/1000"
_TILES_FORM = f"tiles are COLUMNSxROWS, as 1x3, each 1 to {MAX_TILES_PER_SIDE}, and 2 to {MAX_TILES} tiles in total"
# \d would also match digits of other scripts.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TILES = re.compile(r"\s*([0-9]{1,2})\s*[xX]\s*([0-9]{1,2})\s*")


@dataclass(frozen=True)
class Region:
    """A rectangle in an image; it may extend beyond the image.

    Attributes:
        x: Left edge.
        y: Top edge.
        thousandths: The numbers are thousandths of the image's width and height (0 to 1000, decimals allowed);
            otherwise they are whole pixels.

    Raises:
        OptionError: A number is out of its range.
    """

    x: float
    y: float
    width: float
    height: float
    thousandths: bool = False

    def __post_init__(self) -> None:
        check_fields(self, dict.fromkeys(("x", "y", "width", "height"), number) | {"thousandths": flag})
        numbers = (self.x, self.y, self.width, self.height)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or 0 in (self.width, self.height):
            raise OptionError(f"x and y of a region must be 0 or more, width and height above 0: {_REGION_FORM}")
        if not self.thousandths and any(number != int(number) for number in numbers):
            raise OptionError(f"a region in pixels needs whole numbers: {_REGION_FORM}")
        if self.thousandths and max(numbers) > 1000:
            raise OptionError(f"the numbers of a region in thousandths must not exceed 1000: {_REGION_FORM}")

    def __str__(self) -> str:
        text = ",".join(f"{number:.15g}" for number in (self.x, self.y, self.width, self.height))
        return f"{text}/{THOUSANDTHS}" if self.thousandths else text


def parse_region(text: str) -> Region:
    """Parse "x,y,width,height" in pixels, or in thousandths with "/1000" at the end. Raises OptionError."""
    numbers, slash, whole = text.partition("/")
    parts = [part.strip() for part in numbers.split(",")]
    if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)) or (slash and whole.strip() != THOUSANDTHS):
        raise OptionError(f"'{text}' is not a region: {_REGION_FORM}")
    x, y, width, height = map(float, parts)
    return Region(x, y, width, height, thousandths=bool(slash))


def crop(image: Image, region: Region) -> Image:
    """Crop an image to a region, clipped to the image; thousandths are rounded outwards to whole pixels.

    Raises:
        OptionError: The region lies outside the image.
    """
    instance(Image)("image", image)
    instance(Region)("region", region)
    width, height = image.size
    across, down = (width / 1000, height / 1000) if region.thousandths else (1, 1)
    left, right = _pixel_span(region.x * across, (region.x + region.width) * across)
    top, bottom = _pixel_span(region.y * down, (region.y + region.height) * down)
    if left >= width or top >= height:
        raise OptionError(f"the region {region} lies outside the image, which has {width} x {height} pixels")
    return _cut(image, left, top, min(right, width), min(bottom, height))


def _pixel_span(begin: float, end: float) -> tuple[int, int]:
    """Return the whole pixels that a span touches, tolerating rounding errors."""
    return math.floor(round(begin, 6)), math.ceil(round(end, 6))


@dataclass(frozen=True)
class Tiles:
    """A grid of 2 to ``MAX_TILES`` tiles. Raises OptionError for others."""

    columns: int
    rows: int

    def __post_init__(self) -> None:
        check_fields(self, {"columns": whole_number, "rows": whole_number})
        sides = (self.columns, self.rows)
        if min(sides) < 1 or max(sides) > MAX_TILES_PER_SIDE or not 1 < self.columns * self.rows <= MAX_TILES:
            raise OptionError(f"'{self}' is not a grid of tiles: {_TILES_FORM}")

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}"


def parse_tiles(text: str) -> Tiles:
    """Parse "COLUMNSxROWS", for example "1x3". Raises OptionError."""
    found = _TILES.fullmatch(text)
    if not found:
        raise OptionError(f"'{text}' is not a grid of tiles: {_TILES_FORM}")
    return Tiles(int(found[1]), int(found[2]))


def cut_tiles(image: Image, tiles: Tiles) -> tuple[Image, ...]:
    """Cut an image into tiles in reading order, without overlap.

    Raises:
        OptionError: A tile would have a side of less than 32 pixels.
    """
    width, height = image.size
    if width // tiles.columns < MIN_SIDE or height // tiles.rows < MIN_SIDE:
        raise OptionError(
            f"{tiles} tiles of an image of {width} x {height} pixels would be {width // tiles.columns} x "
            f"{height // tiles.rows}; the minimum is {MIN_SIDE} x {MIN_SIDE}"
        )
    across = [width * column // tiles.columns for column in range(tiles.columns + 1)]
    down = [height * row // tiles.rows for row in range(tiles.rows + 1)]
    return tuple(
        _cut(image, across[column], down[row], across[column + 1], down[row + 1])
        for row in range(tiles.rows)
        for column in range(tiles.columns)
    )


def _cut(image: Image, left: int, top: int, right: int, bottom: int) -> Image:
    offset: Matrix = (1.0, 0.0, float(left), 0.0, 1.0, float(top))
    return derive_image(image, image.rgb[top:bottom, left:right], offset)
