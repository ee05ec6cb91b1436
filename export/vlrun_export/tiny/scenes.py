"""Pictures drawn with Pillow, and the truth about them: shelves, price tags, signs, plain shapes.

Knows drawing and what was drawn; does not know questions, tokens or the model. Everything comes from one seeded
generator, so a seed names a scene. Text is drawn in the font inside Pillow itself, so nothing need be installed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, in 0..1 of the picture."""

RGB: TypeAlias = tuple[int, int, int]

KINDS = ("bottle", "can", "box", "bag")
SHAPES = ("circle", "rectangle", "triangle")
COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 210, 40),
    "orange": (245, 130, 20),
    "purple": (140, 50, 170),
}
EASY_COLOURS: dict[str, RGB] = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
    "brown": (165, 42, 42),
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GLYPHS = LETTERS + "0123456789$."
WORDS = (
    "OPEN CLOSED SALE EXIT PUSH PULL STOP MILK TEA BREAD SUGAR SALT RICE FRESH SODA WATER APPLE LEMON HONEY COFFEE "
    "CASH TAXI HOTEL CAFE BAR SHOP BUS MENU HELP FREE NEW HOT COLD FISH MEAT CAKE SOAP TOYS BOOKS SHOES"
).split()

# Height of an item in its slot, and width over height.
PROPORTIONS = {"bottle": (0.86, 0.42), "can": (0.6, 0.64), "box": (0.6, 1.0), "bag": (0.74, 0.78)}

SHELF_PIXELS = 85
COLUMN_PIXELS = 50
"""The least room of a shelf and of an item on it, in pixels of the final picture: a patch has 16."""
MOST_ITEMS = 12


@dataclass(frozen=True)
class Item:
    """A thing in the picture."""

    kind: str
    colour: str
    box: Box


@dataclass(frozen=True)
class Glyph:
    """A character in the picture."""

    character: str
    box: Box


@dataclass(frozen=True)
class Scene:
    """A picture and all that is true of it. ``domain``: shelf, tag, sign, shapes or easy; ``text``: what is written."""

    domain: str
    image: Image.Image
    items: tuple[Item, ...] = ()
    shelves: int = 0
    text: str = ""
    glyphs: tuple[Glyph, ...] = ()


def draw_scene(domain: str, size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw a scene of ``domain`` at ``size`` (width, height) pixels.

    It is drawn one to two and a half times as large and resized, as pictures are that come in from outside.
    """
    makers: dict[str, Callable[[tuple[int, int], np.random.Generator], Scene]] = {
        "shelf": partial(_shelf, most=(size[0] // COLUMN_PIXELS, size[1] // SHELF_PIXELS)),
        "tag": _tag,
        "sign": _sign,
        "shapes": _shapes,
    }
    scale = rng.choice([1.0, 1.5, 2.0, 2.5])
    scene = makers[domain]((round(size[0] * scale), round(size[1] * scale)), rng)
    image = scene.image.resize(size, Image.Resampling.BICUBIC) if scale != 1 else scene.image
    return Scene(domain, _worn(image, rng), scene.items, scene.shelves, scene.text, scene.glyphs)


def draw_item(draw: ImageDraw.ImageDraw, kind: str, colour: RGB, box: Sequence[float]) -> None:
    """Draw one item or shape into ``box`` (pixels)."""
    painters = {
        "bottle": _bottle,
        "can": _can,
        "box": _carton,
        "bag": _bag,
        "circle": lambda d, c, b: d.ellipse(b, fill=c),
        "rectangle": lambda d, c, b: d.rectangle(b, fill=c),
        "triangle": lambda d, c, b: d.polygon([(b[0], b[3]), ((b[0] + b[2]) / 2, b[1]), (b[2], b[3])], fill=c),
    }
    painters[kind](draw, colour, tuple(box))


def _shelf(size: tuple[int, int], rng: np.random.Generator, *, most: tuple[int, int]) -> Scene:
    width, height = size
    image = Image.new("RGB", size, _soft(rng, 170, 250))
    draw = ImageDraw.Draw(image)
    shelves = most[1] - int(rng.integers(0, most[1]) * rng.random())  # more often many than few
    columns = most[0] - int(rng.integers(0, most[0] - 1) * rng.random())
    plank = _soft(rng, 60, 140)
    colours = rng.choice(list(COLOURS), size=int(rng.integers(1, 7)), replace=False)
    row = height / shelves
    thickness = row * rng.uniform(0.05, 0.09)
    for shelf in range(shelves):
        draw.rectangle((0, row * (shelf + 1) - thickness, width, row * (shelf + 1)), fill=plank)
    items: list[Item] = []
    for place, kind in _stock(shelves * columns, rng):
        colour = str(rng.choice(colours))
        floor = row * (place // columns + 1) - thickness
        slot = (place % columns * width / columns, floor - row + thickness, width / columns)
        box = _place(kind, slot, floor, rng)
        draw_item(draw, kind, _vary(COLOURS[colour], rng), box)
        items.append(Item(kind, colour, _relative(box, size)))
    return Scene("shelf", image, tuple(items), shelves)


def _stock(places: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Which kind stands at which place: one kind 0 to 8 times, equally often, and others around it."""
    kinds = [str(kind) for kind in rng.permutation(KINDS)]
    first = min(int(rng.integers(0, 9)), places)
    others = int(rng.integers(0, min(places, MOST_ITEMS) - first + 1)) if first < min(places, MOST_ITEMS) else 0
    choice = kinds[1 : 2 + int(rng.integers(0, 3))]
    stock = [kinds[0]] * first + [str(rng.choice(choice)) for _ in range(others)]
    where = rng.permutation(places)[: len(stock)]
    return sorted((int(place), kind) for place, kind in zip(where, stock, strict=True))


def _place(kind: str, slot: tuple[float, float, float], floor: float, rng: np.random.Generator) -> Box:
    left, top, width = slot
    tall, slender = PROPORTIONS[kind]
    height = (floor - top) * tall * rng.uniform(0.88, 1.0)
    item_width = min(height * slender, width * 0.88)
    height = min(height, item_width / slender * 1.3)
    x = left + (width - item_width) * rng.uniform(0.2, 0.8)
    return (x, floor - height, x + item_width, floor)


def _tag(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    price = f"${rng.integers(0, 100) if rng.random() < 0.5 else rng.integers(0, 10)}.{rng.integers(0, 100):02}"
    image = Image.new("RGB", size, _soft(rng, 120, 250))
    paper = _soft(rng, 225, 256) if rng.random() < 0.7 else (250, 230, 90)
    ink = _soft(rng, 0, 60) if rng.random() < 0.7 else (200, 20, 20)
    return _written("tag", image, price, paper, ink, rng)


def _sign(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    if rng.random() < 0.4:
        word = str(rng.choice(WORDS))
    else:
        word = "".join(rng.choice(list(LETTERS), size=int(rng.integers(2, 7))))
    image = Image.new("RGB", size, _soft(rng, 120, 250))
    light, dark = _soft(rng, 220, 256), _soft(rng, 0, 90)
    if rng.random() < 0.4:
        light, dark = dark, light
    return _written("sign", image, word, light, dark, rng)


def _written(
    domain: str, image: Image.Image, text: str, paper: RGB, ink: RGB, rng: np.random.Generator
) -> Scene:
    """Text on a plate, letter by letter, each about as wide as one visual token."""
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
        box = (x - advance / 2, top + plate_height / 2 - advance * 0.6, x + advance / 2, top + plate_height / 2 + advance * 0.6)
        glyphs.append(Glyph(character, _relative(box, image.size)))
    return Scene(domain, image, text=text, glyphs=tuple(glyphs))


def _shapes(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    if rng.random() < 0.5:
        return _one_easy_shape(size, rng)
    width, height = size
    image = Image.new("RGB", size, _soft(rng, 200, 256))
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
        draw_item(draw, kind, _vary(COLOURS[colour], rng), box)
        items.append(Item(kind, colour, _relative(box, size)))
    return Scene("shapes", image, tuple(items))


def _one_easy_shape(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """One shape on pale ground, in the manner of easy-VQA."""
    image = Image.new("RGB", size, _soft(rng, 230, 256))
    kind, colour = str(rng.choice(SHAPES)), str(rng.choice(list(EASY_COLOURS)))
    w, h = rng.uniform(0.22, 0.6, 2) if kind == "rectangle" else np.repeat(rng.uniform(0.25, 0.6), 2)
    x, y = rng.uniform(0.02, 0.98 - w), rng.uniform(0.02, 0.98 - h)
    box = (x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1])
    draw_item(ImageDraw.Draw(image), kind, _vary(EASY_COLOURS[colour], rng), box)
    return Scene("shapes", image, (Item(kind, colour, _relative(box, size)),))


def _bottle(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    shoulder = top + height * 0.36
    draw.rounded_rectangle((left, shoulder, right, bottom), width * 0.2, fill=colour)
    draw.rectangle((left + width * 0.33, top + height * 0.08, right - width * 0.33, shoulder + height * 0.1), fill=colour)
    draw.rectangle((left + width * 0.28, top, right - width * 0.28, top + height * 0.09), fill=_shade(colour, 0.45))
    draw.rectangle((left, top + height * 0.56, right, top + height * 0.8), fill=_tint(colour, 0.72))


def _can(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    height = bottom - top
    draw.rectangle((left, top + height * 0.08, right, bottom - height * 0.08), fill=colour)
    draw.ellipse((left, bottom - height * 0.16, right, bottom), fill=_shade(colour, 0.6))
    draw.ellipse((left, top, right, top + height * 0.16), fill=(200, 200, 205))
    draw.rectangle((left, top + height * 0.4, right, top + height * 0.5), fill=_tint(colour, 0.6))


def _carton(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    line = max(1, round(width * 0.05))
    draw.rectangle(box, fill=colour, outline=_shade(colour, 0.5), width=line)
    draw.rectangle((left + width * 0.42, top, right - width * 0.42, bottom), fill=_shade(colour, 0.65))
    draw.rectangle((left, top + height * 0.24, right, top + height * 0.3), fill=_shade(colour, 0.5))


def _bag(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    line = max(2, round(width * 0.08))
    draw.arc((left + width * 0.25, top, right - width * 0.25, top + height * 0.5), 180, 360, _shade(colour, 0.5), line)
    corners = [(left + width * 0.12, top + height * 0.26), (right - width * 0.12, top + height * 0.26)]
    draw.polygon([*corners, (right, bottom), (left, bottom)], fill=colour)


def _worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light, noise and compression as pictures have them."""
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.7:
        pixels = pixels * rng.uniform(0.85, 1.1) + rng.uniform(-12, 12)
    if rng.random() < 0.4:
        pixels = pixels + rng.normal(0, rng.uniform(1, 6), pixels.shape).astype(np.float32)
    worn = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        worn.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        worn = Image.open(buffer).convert("RGB")
    return worn


def _relative(box: Sequence[float], size: tuple[int, int]) -> Box:
    return (box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1])


def _soft(rng: np.random.Generator, low: int, high: int) -> RGB:
    """A greyish colour."""
    level = rng.integers(low, high)
    red, green, blue = np.clip(level + rng.integers(-14, 15, 3), 0, 255)
    return int(red), int(green), int(blue)


def _vary(colour: RGB, rng: np.random.Generator) -> RGB:
    red, green, blue = np.clip(np.array(colour) + rng.integers(-12, 13, 3), 0, 255)
    return int(red), int(green), int(blue)


def _shade(colour: RGB, factor: float) -> RGB:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


def _tint(colour: RGB, factor: float) -> RGB:
    red, green, blue = (int(255 - (255 - channel) * (1 - factor)) for channel in colour)
    return red, green, blue
