"""Choosing a font that has the glyphs of a label."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vlrun.media.image import open_image
from vlrun.tasks import fonts
from vlrun.tasks.drawing import draw_marks
from vlrun.tasks.fonts import font_for
from vlrun.types.mark import Mark

GREY = open_image(np.full((240, 320, 3), 128, np.uint8))


def clear_font_caches() -> None:
    for cached in (fonts.installed_fonts, fonts.open_font, font_for):
        cached.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine whose only font folder is empty."""
    monkeypatch.setattr(fonts, "FONT_FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    clear_font_caches()
    yield tmp_path
    clear_font_caches()


def test_labels_without_a_font_become_numbers(no_fonts: Path) -> None:
    """Guards against Chinese labels drawn as empty boxes."""
    (no_fonts / "broken.ttf").write_bytes(b"no font")
    marks = [Mark(label, (60, 80, 260, 200), None) for label in ("红色罐子", "can", "瓶子", "红色罐子\n")]
    assert draw_marks(GREY, marks).legend == ("红色罐子", "瓶子")
    assert draw_marks(GREY, [Mark("can…", (1, 1, 50, 50), None)]).legend == ()


@pytest.mark.fault(47)
def test_special_files_among_the_fonts_are_skipped(no_fonts: Path) -> None:
    """Guards a FIFO, which blocked for ever."""
    os.mkfifo(no_fonts / "fifo.ttf")
    (no_fonts / "zero.ttf").symlink_to("/dev/zero")
    assert font_for("红", 20) is None


def test_an_installed_font_is_chosen_by_its_glyphs(no_fonts: Path) -> None:
    """A font may lack characters that its name suggests."""
    own = fonts.pillow_font(20)
    assert own.path is not None
    assert font_for("é", 20) is None
    dejavu = next((path for path in system_fonts() if "DejaVuSans.ttf" in path.name), None)
    if dejavu is None:
        pytest.skip("no DejaVu Sans on this machine")
    (no_fonts / "one.ttf").symlink_to(dejavu)
    clear_font_caches()
    found = font_for("Gläser é", 20)
    assert found is not None
    assert found.getname()[0] == "DejaVu Sans"
    assert font_for("红", 20) is None


def system_fonts() -> list[Path]:
    return list(Path("/usr/share/fonts").rglob("*.ttf"))
