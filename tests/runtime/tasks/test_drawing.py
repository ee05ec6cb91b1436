"""Marks and heat on images, seen as pixels: readable on any background, whole at any size, written whole or not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from vlrun.errors import OptionError, OutputError
from vlrun.heatmap.overlay import INFERNO, MOST_SIDE, overlay_heat
from vlrun.media.image import Image, open_image
from vlrun.media.output_file import check_target, save_image
from vlrun.tasks import drawing, fonts
from vlrun.tasks.drawing import COLOURS, draw_marks, ink_on, luminance
from vlrun.tasks.fonts import font_for
from vlrun.types.mark import Mark


def plain(width: int, height: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Image:
    return open_image(np.full((height, width, 3), colour, np.uint8))


def noise(width: int, height: int) -> Image:
    return open_image(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def box(label: str, *edges: float) -> Mark:
    return Mark(label, (edges[0], edges[1], edges[2], edges[3]), None)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def areas_of(marks: list[Mark], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[drawing.Area]:
    areas: list[drawing.Area] = []
    original = drawing._draw_plate

    def spying(draw, plate, area, pen) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        areas.append(area)
        original(draw, plate, area, pen)

    monkeypatch.setattr(drawing, "_draw_plate", spying)
    draw_marks(plain(*size), marks)
    return areas


BACKGROUNDS = [
    plain(320, 240, (255, 255, 255)),
    plain(320, 240, (0, 0, 0)),
    plain(320, 240, COLOURS[0]),
    plain(320, 240, (255, 0, 0)),
    noise(320, 240),
]


@pytest.mark.parametrize("background", BACKGROUNDS, ids=["white", "black", "same", "red", "noise"])
def test_lines_and_labels_stand_out_of_any_background(background: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards red boxes on red apples: a line has neighbours of its own, and a label its own plate and rim."""
    can = box("can", 60, 80, 260, 200)
    ((left, top, right, bottom),) = areas_of([can], background.size, monkeypatch)
    drawn = np.asarray(draw_marks(background, [can]).image)
    across = [tuple(pixel) for pixel in drawn[140, 50:70].tolist()]
    assert {(0, 0, 0), (255, 255, 255), COLOURS[0]} <= set(across)
    plate = drawn[top:bottom, left:right]
    on_white = np.asarray(draw_marks(BACKGROUNDS[0], [can]).image)[top:bottom, left:right]
    np.testing.assert_array_equal(plate, on_white)  # no background shows through it
    ink = ink_on(COLOURS[0])
    assert (plate[[0, -1]] == ink).all()
    written = {(int(r), int(g), int(b)) for r, g, b in plate[2:-2, 2:-2].reshape(-1, 3)}
    assert sum(contrast(pixel, COLOURS[0]) > 4 for pixel in written) >= 4
    assert (plate == COLOURS[0]).all(-1).mean() > 0.3


def test_ink_can_be_read_on_every_plate() -> None:
    """Guards the choice of ink: WCAG asks for 4.5, and no other ink may be better."""
    colours = [*COLOURS, *[(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)]]
    for colour in colours:
        ink = ink_on(colour)
        other = (255 - ink[0], 255 - ink[1], 255 - ink[2])
        assert contrast(ink, colour) >= max(4.5, contrast(other, colour))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (64, 64), (3000, 20), (640, 480), (2000, 1500)])
def test_every_size_and_edge(size: tuple[int, int]) -> None:
    """Guards against boxes of no size, on or beyond the border, and against images smaller than a line."""
    width, height = size
    marks = [
        box("all", 0, 0, width, height),
        box("none", 5, 5, 5, 5),
        box("outside", -50, -50, width + 50, height * 2),
        box("corner", width, height, width, height),
        Mark("tip", None, (width, 0)),
    ]
    for mark in marks:
        drawn = draw_marks(plain(*size), [mark]).image
        assert drawn.size == size
        assert (np.asarray(drawn) != 128).any()
    assert draw_marks(plain(*size), [Mark("nowhere", None, None)]).image.getpixel((0, 0)) == (128, 128, 128)


def test_the_image_itself_stays_as_it_is() -> None:
    """Guards the cached image: drawing on it would change the next answer."""
    image = plain(100, 100)
    draw_marks(image, [box("can", 10, 10, 90, 90)])
    overlay_heat(image, np.ones((4, 4), np.float32)).paste((1, 2, 3), (0, 0, 50, 50))
    overlay_heat(image, np.zeros((4, 4), np.float32)).paste((1, 2, 3), (0, 0, 50, 50))
    assert (image.rgb == 128).all()


def overlaps(one: drawing.Area, other: drawing.Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_labels_stay_inside_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards labels cut by the border or hidden by others, where there is room: also for equal boxes and neighbours."""
    same = [box(f"label {n}", 300, 200, 340, 240) for n in range(8)]
    border = [box("left", 0, 0, 20, 20), box("right", 600, 0, 640, 20), box("below", 620, 470, 640, 480)]
    points = [Mark(f"tip {n}", None, (40.0 + 12 * n, 400.0)) for n in range(5)]
    areas = areas_of(same + border + points, (640, 480), monkeypatch)
    assert len(areas) == 16
    for number, area in enumerate(areas):
        assert area[0] >= 0 <= area[1]
        assert area[2] <= 640
        assert area[3] <= 480
        assert not any(overlaps(area, other) for other in areas[:number])


def test_the_same_mark_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an image papered with one label by a model that repeats itself."""
    assert len(areas_of([box("can", 300, 200, 340, 240)] * 50, (640, 480), monkeypatch)) == 1


def test_two_hundred_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards crowds: labels get smaller before they cover one another."""
    grid = [(10.0 + 60 * (n % 10), 10.0 + 30 * (n // 10)) for n in range(200)]
    areas = areas_of([box(f"item {n}", x, y, x + 45, y + 25) for n, (x, y) in enumerate(grid)], (640, 640), monkeypatch)
    assert not any(overlaps(area, other) for number, area in enumerate(areas) for other in areas[:number])


def test_long_and_odd_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards labels of a kilobyte, and characters that draw nothing, turn text around or cannot be encoded."""
    (area,) = areas_of([box("x" * 100_000, 10, 100, 50, 150)], (640, 480), monkeypatch)
    assert area[2] - area[0] < 330
    assert areas_of([box("\x00\n\u200d\u202e\ufe0f\ud800 ", 10, 100, 50, 150)], (640, 480), monkeypatch) == []
    marks = [box(label, 60, 80, 260, 200) for label in ("a\x07b", "ab")]
    first, second = (draw_marks(plain(320, 240), [mark]).image.tobytes() for mark in marks)
    assert first == second


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose only font folder is this one, empty."""
    monkeypatch.setattr(fonts, "FONT_FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    return tmp_path


@pytest.fixture(autouse=True)
def forget_fonts() -> None:
    """What one test finds installed must not be what the next one sees."""
    fonts._installed.cache_clear()
    fonts._opened.cache_clear()
    font_for.cache_clear()


def test_labels_without_a_font_become_numbers(no_fonts: Path) -> None:
    """Guards Chinese labels drawn as empty squares: they are numbers, equal ones the same, and a legend says which."""
    (no_fonts / "broken.ttf").write_bytes(b"no font")
    marks = [box(label, 60, 80, 260, 200) for label in ("红色罐子", "can", "瓶子", "红色罐子\n")]
    assert draw_marks(plain(320, 240), marks).legend == ("红色罐子", "瓶子")
    assert draw_marks(plain(320, 240), [box("can…", 1, 1, 50, 50)]).legend == ()


def test_an_installed_font_is_found_and_its_glyphs_are_looked_at(no_fonts: Path) -> None:
    """Guards against a font that is taken for its name: it must have the characters, not squares in their place."""
    own = fonts.own_font(20)
    assert own.path is not None
    assert font_for("é", 20) is None
    with_accents = next((path for path in _fonts() if "DejaVuSans.ttf" in path.name), None)
    if with_accents is None:
        pytest.skip("no DejaVu Sans on this machine")
    (no_fonts / "one.ttf").symlink_to(with_accents)
    forget = (fonts._installed, fonts._opened, font_for)
    for cached in forget:
        cached.cache_clear()
    found = font_for("Gläser é", 20)
    assert found is not None
    assert found.getname()[0] == "DejaVu Sans"
    assert font_for("红", 20) is None


def _fonts() -> list[Path]:
    return list(Path("/usr/share/fonts").rglob("*.ttf"))


HOT_CORNER = np.pad(np.ones((1, 1), np.float32), ((0, 15), (0, 23)))


def test_heat_shows_where() -> None:
    """Guards mixed-up axes and dark edges: the hottest place is the corner itself, the other end stays grey."""
    shown = np.asarray(overlay_heat(plain(480, 320), HOT_CORNER)).astype(int)
    assert shown.shape == (320, 480, 3)
    assert shown[0, 0].min() > 100
    assert shown[0, 0, 0] > 200
    assert np.ptp(shown[200:, 300:].reshape(-1, 3), 0).max() == 0
    np.testing.assert_array_equal(shown, np.asarray(overlay_heat(plain(480, 320), HOT_CORNER * 1e-30)))


def test_even_heat_is_even() -> None:
    """Guards the borders: enlarging must not darken or lighten them."""
    assert len(np.unique(np.asarray(overlay_heat(plain(333, 77), np.full((3, 9), 5, np.float32))))) <= 3


def test_the_image_can_be_recognized_under_heat() -> None:
    """Guards the opacity: what was light stays lighter, even at the hottest place."""
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    shown = np.asarray(overlay_heat(open_image(halves), np.ones((4, 4), np.float32))).astype(int)
    assert shown[10, 50].sum() > shown[10, 10].sum() + 60


def test_colours_of_heat_are_ordered() -> None:
    """Guards the table: each step is lighter than the one before, for the colour-blind and for grey printers."""
    light = [luminance((int(r), int(g), int(b))) for r, g, b in INFERNO]
    assert light == sorted(set(light))


def test_no_heat_leaves_the_image() -> None:
    """Guards the empty map, which has no highest value to divide by."""
    image = noise(100, 50)
    np.testing.assert_array_equal(np.asarray(overlay_heat(image, np.zeros((3, 3), np.float32))), image.rgb)


def test_heat_on_a_large_image_is_limited() -> None:
    """Guards time and memory: nobody needs a heat map of 89 megapixels."""
    assert overlay_heat(plain(5000, 500), HOT_CORNER).size == (MOST_SIDE, 205)


@pytest.mark.parametrize(
    "heat", [np.full((2, 2), np.nan), np.full((2, 2), np.inf), -np.ones((2, 2)), np.ones(4), np.ones((0, 4))]
)
def test_what_is_no_heat(heat: np.typing.NDArray[np.float64]) -> None:
    """Guards against a black image without a word."""
    with pytest.raises(OptionError, match="a heat map has"):
        overlay_heat(plain(10, 10), heat.astype(np.float32))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_images_are_written_whole(suffix: str, tmp_path: Path) -> None:
    """Guards formats by name, files that others may read, links that stay links, and nothing left beside."""
    target = tmp_path / f"out{suffix}"
    link = tmp_path / f"link{suffix}"
    link.symlink_to(target)
    for path in (target, link):
        save_image(PILImage.new("RGB", (30, 20), (200, 30, 40)), path)
    assert link.is_symlink()
    assert open_image(link).size == (30, 20)
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert {path.name for path in tmp_path.iterdir()} == {target.name, link.name}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("out.bmp", "must end in .png"),
        ("out", "must end in .png"),
        ("none/out.png", "there is no folder"),
        ("folder.png", "it is a folder"),
        ("x" * 300 + ".png", "File name too long"),
        ("a\0b.png", "null"),
    ],
)
def test_targets_are_checked_before_the_work(name: str, sentence: str, tmp_path: Path) -> None:
    """Guards minutes of work for a typing error."""
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=sentence):
        check_target(tmp_path / name)
    with pytest.raises(OutputError, match=sentence):
        save_image(PILImage.new("RGB", (3, 3)), tmp_path / name)


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards read-only folders (the superuser may write everywhere, so the answer is given here)."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="not yours to write in"):
        check_target(tmp_path / "out.png")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards yesterday's image: it is replaced by a whole one or not at all, and the sentence says why."""
    target = tmp_path / "out.png"
    target.write_bytes(b"yesterday")

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_image(PILImage.new("RGB", (3, 3)), target)
    assert target.read_bytes() == b"yesterday"
    assert list(tmp_path.iterdir()) == [target]


def test_a_image_too_large_for_its_format(tmp_path: Path) -> None:
    """Guards WebP's limit of 16383 pixels, which Pillow tells in its own words."""
    with pytest.raises(OutputError, match=r"out\.webp"):
        save_image(PILImage.new("RGB", (17_000, 1)), tmp_path / "out.webp")
