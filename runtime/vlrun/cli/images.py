"""Images as a command line names them: files or stdin, a part of them, made clearer. Knows click and files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vlrun.cli.option_groups import grouped
from vlrun.cli.terminal import printable, silent_libraries
from vlrun.errors import DamagedMedia, MediaTooLarge, OptionError

if TYPE_CHECKING:
    from vlrun.media.image import Image


R = TypeVar("R")

_FOCUS: Mapping[str, Mapping[str, Any]] = {
    "region": {"metavar": "X,Y,W,H", "help": "This part alone: pixels, or thousandths with /1000 behind."},
    "enhance": {"is_flag": True, "help": "Straighten, brighten, sharpen where needed."},
}


@dataclass(frozen=True)
class ImageOptions:
    """What of an image is shown, and how."""

    region: str | None = None
    enhance: bool = False


NO_IMAGE_OPTIONS = ImageOptions()


def focus(command: Callable[..., R]) -> Callable[..., R]:
    """Add region and enhancement to a command, which receives them as ``focus``."""
    return grouped(command, "focus", _FOCUS, lambda given: ImageOptions(**given))


@dataclass(frozen=True)
class LoadedImage:
    """An image as it was given, and what of it the model is shown."""

    original: Image
    image: Image


def open_images(names: Sequence[str], focus: ImageOptions) -> list[LoadedImage]:
    """Open them, telling on stderr what was left out or changed. Raises MediaError and OptionError."""
    from vlrun.media.region import crop, parse_region

    part = parse_region(focus.region) if focus.region is not None else None
    shown = []
    for name in names:
        original = _open(name)
        image = crop(original, part) if part else original
        image = _enhanced(image) if focus.enhance else image
        for note in image.notes:
            click.echo(printable(f"vlrun: {note}"), err=True)
        shown.append(LoadedImage(original, image))
    return shown


def untold(notes: Iterable[str], shown: Sequence[LoadedImage]) -> tuple[str, ...]:
    """Notes but those that were told when the images were opened."""
    told = {note for one in shown for note in one.image.notes}
    return tuple(note for note in notes if note not in told)


def _enhanced(image: Image) -> Image:
    from vlrun.media.enhance import enhance

    return enhance(image)


def _open(name: str) -> Image:
    from vlrun.media.image import open_image

    with silent_libraries():
        return open_image(_read_stdin() if name == "-" else name)


def _read_stdin() -> bytes:
    from vlrun.media.image import MAX_FILE_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise OptionError("- reads an image from stdin, but stdin is closed or a terminal")
    encoded = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(encoded) > MAX_FILE_BYTES:
        raise MediaTooLarge(f"the image on stdin has more than {MAX_FILE_BYTES:,} bytes, the limit")
    if not encoded:
        raise DamagedMedia("the image on stdin is empty")
    return encoded
