"""Finds a font for a text: Pillow's built-in font, or an installed one."""

from __future__ import annotations

import contextlib
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageFont

from vlrun.storage.regular_files import open_regular

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
MAX_FONTS = 200
MAX_FONT_BYTES = 128 << 20
_WIDE_FONTS = ("dejavusans.", "notosans-regular", "cjk", "wqy", "fallback", "uming", "liberationsans-regular")
_DECORATIVE_FONTS = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black", "math")
_NO_CHARACTER = "\U0010ffff"


@lru_cache(maxsize=1024)
def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of ``size`` pixels with every character of ``text`` and an ellipsis, None if there is none."""
    needed = "".join(sorted(set(text) - {" "} | {"…"}))
    own = pillow_font(size)
    if _covers(own, needed):
        return own
    return next((font for path in installed_fonts() if (font := open_font(path, size)) and _covers(font, needed)), None)


def pillow_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's built-in font in ``size`` pixels."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # always this type when a size is given


def _covers(font: ImageFont.FreeTypeFont, needed: str) -> bool:
    """Return whether each character has a visible glyph other than the one for missing characters."""
    missing = bytes(font.getmask(_NO_CHARACTER))
    masks = (font.getmask(character) for character in needed)
    return all(mask.getbbox() is not None and bytes(mask) != missing for mask in masks)


@lru_cache(maxsize=2 * MAX_FONTS)
def open_font(path: Path, size: int) -> ImageFont.FreeTypeFont | None:
    """Return the font of a file in ``size`` pixels, None if it cannot be used."""
    with contextlib.suppress(OSError):  # damaged, bitmaps in other sizes, or no regular file
        os.close(open_regular(path, MAX_FONT_BYTES))
        return ImageFont.truetype(path, size)
    return None


@cache
def installed_fonts() -> tuple[Path, ...]:
    """Return the installed font files: those with many characters first, decorative ones last."""
    found = [
        Path(folder, name)
        for root in FONT_FOLDERS
        for folder, _, names in os.walk(Path(root).expanduser())
        for name in names
        if name.lower().endswith((".ttf", ".ttc", ".otf"))
    ]

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return not any(w in name for w in _WIDE_FONTS), any(w in name for w in _DECORATIVE_FONTS), str(path)

    return tuple(sorted(found, key=rank)[:MAX_FONTS])
