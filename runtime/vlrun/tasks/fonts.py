"""Fonts that have the characters of a text: Pillow's own, or one of the system's. Knows font files and glyphs."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageFont

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
MOST_FONTS = 200
_WIDE_FONTS = ("dejavusans.", "notosans-regular", "cjk", "wqy", "fallback", "uming", "liberationsans-regular")
_FANCY_FONTS = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black", "math")
_NO_CHARACTER = "\U0010ffff"


@lru_cache(maxsize=1024)
def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font of ``size`` pixels with every character of ``text`` and an ellipsis: Pillow's own or an installed one."""
    needed = "".join(sorted(set(text) - {" "} | {"…"}))
    own = own_font(size)
    if _has_all(own, needed):
        return own
    return next((font for path in _installed() if (font := _opened(path, size)) and _has_all(font, needed)), None)


def own_font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, in ``size`` pixels."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # it is one wherever a size is given


def _has_all(font: ImageFont.FreeTypeFont, needed: str) -> bool:
    """Whether each character has a glyph that shows something and is not the one for missing characters."""
    missing = bytes(font.getmask(_NO_CHARACTER))
    masks = (font.getmask(character) for character in needed)
    return all(mask.getbbox() is not None and bytes(mask) != missing for mask in masks)


@lru_cache(maxsize=2 * MOST_FONTS)
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont | None:
    with contextlib.suppress(OSError):  # damaged, or bitmaps in other sizes
        return ImageFont.truetype(path, size)
    return None


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    """Font files, those first that have many characters, the fancy ones last."""
    found = [
        Path(folder, name)
        for root in FONT_FOLDERS
        for folder, _, names in os.walk(Path(root).expanduser())
        for name in names
        if name.lower().endswith((".ttf", ".ttc", ".otf"))
    ]

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return not any(w in name for w in _WIDE_FONTS), any(w in name for w in _FANCY_FONTS), str(path)

    return tuple(sorted(found, key=rank)[:MOST_FONTS])
