"""Scenes drawn with Pillow, with their ground truth: shelves, price tags, signs, plain shapes.

Everything comes from one seeded generator, so a seed identifies a scene. Text is drawn in Pillow's built-in font, so no
font needs to be installed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.rendering import COLOURS, EASY_COLOURS, RGB, Box, draw_item, grey, vary
from vlrun.vision.patches import fit

KINDS = ("bottle", "can", "box", "bag")
SHAPES = ("circle", "rectangle", "triangle")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GLYPHS = LETTERS + "0123456789$."
WORDS = (
    "OPEN CLOSED SALE EXIT PUSH PULL STOP MILK TEA BREAD SUGAR SALT RICE FRESH SODA WATER APPLE LEMON HONEY COFFEE "
    "CASH TAXI HOTEL CAFE BAR SHOP BUS MENU HELP FREE NEW HOT COLD FISH MEAT CAKE SOAP TOYS BOOKS SHOES"
).split()

PROPORTIONS = {"bottle": (0.86, 0.42), "can": (0.6, 0.64), "box": (0.6, 1.0), "bag": (0.74, 0.78)}
"""Height of an item as a part of its slot, and its aspect ratio (width / height)."""

SHELF_PIXELS = 85
COLUMN_PIXELS = 50
"""Least height of a shelf and width of an item's slot, in pixels of the final image; a patch has 16."""
MAX_ITEMS = 12

PIXEL_FACTOR = 32
MIN_PIXELS, MAX_PIXELS = 256 * 224, 288 * 256
"""The runtime resizes every image to sides that are multiples of PIXEL_FACTOR, with an area between these limits."""

HELD_OUT_SEED = 10**9
"""Seeds from here on are never used in training."""


@dataclass(frozen=True)
class Item:
    """An object in the image; ``box`` in 0..1 of its width and height."""

    kind: str
    colour: str
    box: Box


@dataclass(frozen=True)
class Glyph:
    """A character in the image; ``box`` in 0..1 of its width and height."""

    character: str
    box: Box


@dataclass(frozen=True)
class Scene:
    """An image, or a frame of a clip, and its ground truth.

    ``domain``: shelf, tag, sign, shapes, easy or clip; ``text``: what is written in it.
    """

    domain: str
    image: Image.Image
    items: tuple[Item, ...] = ()
    shelves: int = 0
    text: str = ""
    glyphs: tuple[Glyph, ...] = ()


def draw_scene(
    domain: str, size: tuple[int, int], rng: np.random.Generator, *, drawn: tuple[int, int] | None = None
) -> Scene:
    """Draw a scene whose details remain visible at ``size``.

    Args:
        domain: shelf, tag, sign or shapes.
        size: Width and height of the model's input, in pixels.
        rng: Source of all randomness.
        drawn: Draw the image at this size and return it unscaled. By default it is drawn as large as real images are,
        and
            resized as the runtime does, which may change its aspect ratio.
    """
    makers: dict[str, Callable[[tuple[int, int], np.random.Generator], Scene]] = {
        "shelf": partial(_shelf, most=(size[0] // COLUMN_PIXELS, size[1] // SHELF_PIXELS)),
        "tag": _tag,
        "sign": _sign,
        "shapes": _shapes,
    }
    scene = makers[domain](drawn or original_size(size, rng), rng)
    image = scene.image if drawn else scene.image.resize(size, Image.Resampling.BICUBIC)
    return replace(scene, image=degrade(image, rng))


def original_size(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Draw the size of an image that the runtime resizes to ``size``.

    Its aspect ratio often differs, because the sides of ``size`` are multiples of 32 pixels.
    """
    side = np.sqrt(size[0] * size[1])
    for _ in range(100):
        scale, stretch = rng.choice([1.0, 1.5, 2.0, 2.5]), np.sqrt(size[0] / size[1]) * rng.uniform(0.9, 1.12)
        width, height = round(side * scale * stretch), round(side * scale / stretch)
        if fit(height, width, PIXEL_FACTOR, MIN_PIXELS, MAX_PIXELS) == (size[1], size[0]):
            return width, height
    return size


def _shelf(size: tuple[int, int], rng: np.random.Generator, *, most: tuple[int, int]) -> Scene:
    width, height = size
    image = Image.new("RGB", size, grey(rng, 170, 250))
    draw = ImageDraw.Draw(image)
    shelves = most[1] - int(rng.integers(0, most[1]) * rng.random())  # many are more likely than few
    columns = most[0] - int(rng.integers(0, most[0] - 1) * rng.random())
    plank = grey(rng, 60, 140)
    colours = rng.choice(list(COLOURS), size=int(rng.integers(1, 7)), replace=False)
    row = height / shelves
    thickness = row * rng.uniform(0.05, 0.09)
    for shelf in range(shelves):
        draw.rectangle((0, row * (shelf + 1) - thickness, width, row * (shelf + 1)), fill=plank)
    items: list[Item] = []
    for place, kind in _arrange_items(shelves * columns, rng):
        colour = str(rng.choice(colours))
        floor = row * (place // columns + 1) - thickness
        slot = (place % columns * width / columns, floor - row + thickness, width / columns)
        box = _item_box(kind, slot, floor, rng)
        draw_item(draw, kind, vary(COLOURS[colour], rng), box)
        items.append(Item(kind, colour, _relative(box, size)))
    return Scene("shelf", image, tuple(items), shelves)


def _arrange_items(places: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Draw kinds for places: one kind 0 to 8 times with equal probability, and others around it."""
    kinds = [str(kind) for kind in rng.permutation(KINDS)]
    first = min(int(rng.integers(0, 9)), places)
    others = int(rng.integers(0, min(places, MAX_ITEMS) - first + 1)) if first < min(places, MAX_ITEMS) else 0
    choice = kinds[1 : 2 + int(rng.integers(0, 3))]
    stock = [kinds[0]] * first + [str(rng.choice(choice)) for _ in range(others)]
    where = rng.permutation(places)[: len(stock)]
    return sorted((int(place), kind) for place, kind in zip(where, stock, strict=True))


def _item_box(kind: str, slot: tuple[float, float, float], floor: float, rng: np.random.Generator) -> Box:
    left, top, width = slot
    tall, slender = PROPORTIONS[kind]
    height = (floor - top) * tall * rng.uniform(0.88, 1.0)
    item_width = min(height * slender, width * 0.88)
    height = min(height, item_width / slender * 1.3)
    x = left + (width - item_width) * rng.uniform(0.2, 0.8)
    return (x, floor - height, x + item_width, floor)


def _tag(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    price = f"${rng.integers(0, 100) if rng.random() < 0.5 else rng.integers(0, 10)}.{rng.integers(0, 100):02}"
    image = Image.new("RGB", size, grey(rng, 120, 250))
    paper = grey(rng, 225, 256) if rng.random() < 0.7 else (250, 230, 90)
    ink = grey(rng, 0, 60) if rng.random() < 0.7 else (200, 20, 20)
    return _text_plate("tag", image, price, paper, ink, rng)


def _sign(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    if rng.random() < 0.4:
        word = str(rng.choice(WORDS))
    else:
        word = "".join(rng.choice(list(LETTERS), size=int(rng.integers(2, 7))))
    image = Image.new("RGB", size, grey(rng, 120, 250))
    light, dark = grey(rng, 220, 256), grey(rng, 0, 90)
    if rng.random() < 0.4:
        light, dark = dark, light
    return _text_plate("sign", image, word, light, dark, rng)


def _text_plate(domain: str, image: Image.Image, text: str, paper: RGB, ink: RGB, rng: np.random.Generator) -> Scene:
    """Draw text on a plate, each letter about as wide as a visual token."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    advance = min(width * 0.94 / (len(text) + 0.6), height * 0.3) * rng.uniform(0.85, 1.0)
    font = ImageFont.load_default(advance * rng.uniform(1.25, 1.45))
    stroke = int(advance * rng.choice([0.0, 0.03, 0.06]))
    plate_width, plate_height = advance * (len(text) + 0.6), advance * rng.uniform(1.7, 2.4)
    left = rng.uniform(0.02 * width, width * 0.98 - plate_width)
    top = rng.uniform(0.02 * height, height * 0.98 - plate_height)
    draw.rounded_rectangle((left, top, left + plate_width, top + plate_height), advance * 0.2, fill=paper)
    glyphs = []
    for place, character in enumerate(text):
        x = left + advance * (place + 0.8)
        draw.text((x, top + plate_height / 2), character, font=font, fill=ink, anchor="mm", stroke_width=stroke)
        box = (
            x - advance / 2,
            top + plate_height / 2 - advance * 0.6,
            x + advance / 2,
            top + plate_height / 2 + advance * 0.6,
        )
        glyphs.append(Glyph(character, _relative(box, image.size)))
    return Scene(domain, image, text=text, glyphs=tuple(glyphs))


def _shapes(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    if rng.random() < 0.5:
        return _one_easy_shape(size, rng)
    width, height = size
    image = Image.new("RGB", size, grey(rng, 200, 256))
    draw = ImageDraw.Draw(image)
    cells = [(c, r) for c in range(2) for r in range(2)]
    items = []
    for index in rng.permutation(4)[: int(rng.integers(1, 5))]:
        kind, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
        w, h = rng.uniform(0.26, 0.44, 2) if kind == "rectangle" else np.repeat(rng.uniform(0.26, 0.44), 2)
        w, h = (w, h) if kind == "rectangle" else (w * min(size) / width, h * min(size) / height)
        x = cells[index][0] / 2 + rng.uniform(0.02, 0.48 - w)
        y = cells[index][1] / 2 + rng.uniform(0.02, 0.48 - h)
        box = (x * width, y * height, (x + w) * width, (y + h) * height)
        draw_item(draw, kind, vary(COLOURS[colour], rng), box)
        items.append(Item(kind, colour, _relative(box, size)))
    return Scene("shapes", image, tuple(items))


def _one_easy_shape(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw one shape on a pale background, in the style of easy-VQA."""
    image = Image.new("RGB", size, grey(rng, 230, 256))
    kind, colour = str(rng.choice(SHAPES)), str(rng.choice(list(EASY_COLOURS)))
    w, h = rng.uniform(0.22, 0.6, 2) if kind == "rectangle" else np.repeat(rng.uniform(0.25, 0.6), 2)
    x, y = rng.uniform(0.02, 0.98 - w), rng.uniform(0.02, 0.98 - h)
    box = (x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1])
    draw_item(ImageDraw.Draw(image), kind, vary(EASY_COLOURS[colour], rng), box)
    return Scene("shapes", image, (Item(kind, colour, _relative(box, size)),))


def degrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add exposure changes, noise and compression artefacts."""
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.7:
        pixels = pixels * rng.uniform(0.85, 1.1) + rng.uniform(-12, 12)
    if rng.random() < 0.4:
        pixels = pixels + rng.normal(0, rng.uniform(1, 6), pixels.shape).astype(np.float32)
    degraded = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        degraded.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        degraded = Image.open(buffer).convert("RGB")
    return degraded


def _relative(box: Sequence[float], size: tuple[int, int]) -> Box:
    return (box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1])
