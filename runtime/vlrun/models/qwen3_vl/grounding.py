"""Boxes and points in Qwen's grounding format, parsed to marks in pixels of the user's image, and formatted.

Parses both notations (objects with ``bbox_2d`` or ``point_2d``, and ``<|box_start|>`` tokens), also in prose, fenced,
badly quoted or cut short. Reads each character a bounded number of times and never raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vlrun.media.transform import ImageTransform
from vlrun.types.mark import Mark

SCALE = 1000.0
"""Coordinates are in thousandths of the image's width and height."""


def find_marks(text: str, size: tuple[int, int], transform: ImageTransform) -> tuple[Mark, ...]:
    """Return the marks of an answer, in order.

    Values outside 0..1000 are clamped and swapped corners exchanged; coordinates that are not two or four finite
    numbers are skipped. The last mark of a truncated answer needs a closing bracket (``[10, 20, 30, 4`` may mean 40);
    its label may be truncated.

    Args:
        text: The answer.
        size: Width and height of the image that the model received.
        transform: From that image to the original, in whose pixels the marks are.
    """
    x_scale, y_scale = size[0] / SCALE, size[1] / SCALE
    marks = []
    for found in _Reader(text).read():
        box = point = None
        if found.box is not None:
            left, top, right, bottom = found.box
            box = transform.box(left * x_scale, top * y_scale, right * x_scale, bottom * y_scale)
        if found.point is not None:
            point = transform.point(found.point[0] * x_scale, found.point[1] * y_scale)
        if box is not None or point is not None:
            marks.append(Mark(found.label, box, point, (found.start, found.end)))
    return tuple(marks)


def format_box(mark: Mark, size: tuple[int, int]) -> Mapping[str, object]:
    """Return a box as an object with ``bbox_2d``. ``size``: width and height of the mark's image."""
    edges = [round(edge / side * SCALE) for edge, side in zip(mark.box or (), (*size, *size), strict=False)]
    return {_BOX_KEY: edges, "label": mark.label}


_BOX_KEY, _POINT_KEY = "bbox_2d", "point_2d"
_LABEL_KEYS = ("label", "text_content", "sub_label")
"""The first key present gives the label: text spotting has no ``label``, and some tasks have two of these keys."""

# Linear time: adjacent repetitions never match the same characters, and each ends before a possible next start.
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_WHOLE_NUMBER = re.compile(_NUMBER)
_PAIR = rf"\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
_OPENING = re.compile(
    r"\{"
    r"|<\|object_ref_start\|>(?P<label>(?:[^<]|<(?!\|))*)<\|object_ref_end\|>"
    rf"|<\|box_start\|>\s*(?P<corner>{_PAIR})(?:\s*(?:,\s*)?(?P<other>{_PAIR}))?(?P<end>\s*<\|box_end\|>)?"
)
_GAP = re.compile(r"[\s,]*")
_KEY = re.compile(r"""(?:"(?P<a>[^"\\\n]{0,99})"|'(?P<b>[^'\\\n]{0,99})'|(?P<c>\w{1,99}))\s*:\s*""")
_FLAT = re.compile(r"""[\[(]([^\[\](){}"']*)[\])]""")
_BARE = re.compile(r"[-+.\w]+")
# A label may contain quotes that the model did not escape; the closing quote precedes a comma, a bracket or the end.
_QUOTED = {
    quote: re.compile(rf"{quote}((?:[^{quote}\\\n]|\\.|{quote}(?![^\S\n]*(?:[,}}\]\n]|\Z)))*)(?P<end>{quote})?")
    for quote in ("'", '"')
}
_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"\\(?:u({_HEX}{{4}})|U(00(?:0{_HEX}|10){_HEX}{{4}})|x({_HEX}{{2}})|(?:u{_HEX}{{0,3}}|U{_HEX}{{0,7}}|x{_HEX}?)\Z|(.)|\Z)"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(slots=True)
class _Object:
    """An object, as far as it was read, and its span in the text; coordinates in thousandths."""

    start: int
    end: int = 0
    key: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    box: tuple[float, ...] | None = None
    point: tuple[float, ...] | None = None

    @property
    def label(self) -> str:
        return next((label for key in _LABEL_KEYS if (label := self.labels.get(key))), "")


class _Reader:
    """Single-pass parser. Outside braces the text is prose, and quotes and square brackets have no meaning.

    Inside braces, text that matches no rule closes all open objects, and parsing continues as prose.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._open: list[_Object | None] = []  # None stands for a list
        self._found: list[_Object] = []
        self._reference = ""
        self._reference_start: int | None = None  # until the first box or point that it labels

    def read(self) -> list[_Object]:
        while self._position < len(self._text):
            if not self._open:
                self._prose()
            elif not self._member():
                self._close_all()
        self._close_all()
        return self._found

    def _prose(self) -> None:
        """Read the next opening brace or grounding token."""
        match = _OPENING.search(self._text, self._position)
        if match is None:
            self._position = len(self._text)
            return
        self._position = match.end()
        if match["label"] is not None:
            self._reference, self._reference_start = _one_line(match["label"]), match.start()
        elif match["corner"] is None:
            self._enter()
        elif match["other"] is not None:
            self._labelled(match).box = _numbers(f"{match['corner']},{match['other']}", 4)
        elif match["end"] is not None:  # without the end token a second corner may follow
            self._labelled(match).point = _numbers(match["corner"], 2)

    def _labelled(self, match: re.Match[str]) -> _Object:
        """Add what a grounding token begins. The first one after a label includes it."""
        start = match.start() if self._reference_start is None else self._reference_start
        self._reference_start = None
        self._found.append(_Object(start, match.end(), labels={"label": self._reference}))
        return self._found[-1]

    def _member(self) -> bool:
        """Read the next member or the end of the innermost object or list; return False if there is neither."""
        self._take(_GAP)
        if self._position == len(self._text):
            return True
        innermost = self._open[-1]
        if self._text[self._position] == ("]" if innermost is None else "}"):
            self._position += 1
            if (closed := self._open.pop()) is not None:
                closed.end = self._position
            return True
        if innermost is None:
            return self._value(None)
        key = self._take(_KEY)
        if key is None:
            return False
        innermost.key = key["a"] or key["b"] or key["c"] or ""
        return self._value(innermost)

    def _value(self, owner: _Object | None) -> bool:
        """Read a value and store coordinates and labels in ``owner``; return False if there is no value."""
        key = owner.key if owner else ""
        if owner and key in (_BOX_KEY, _POINT_KEY) and (flat := self._take(_FLAT)):
            if key == _BOX_KEY:
                owner.box = _numbers(flat[1], 4)
            else:
                owner.point = _numbers(flat[1], 2)
            return True
        first = self._text[self._position : self._position + 1]
        if first == "{":
            self._position += 1
            self._enter()
        elif first == "[":
            self._position += 1
            self._open.append(None)
        else:
            return self._scalar(owner, first)
        return True

    def _scalar(self, owner: _Object | None, first: str) -> bool:
        """Read a string, a number or a constant; return False if there is none."""
        quoted = first in _QUOTED
        word = self._take(_QUOTED[first] if quoted else _BARE)
        if word is None:
            return False
        if owner and owner.key in _LABEL_KEYS:
            if quoted:
                owner.labels[owner.key] = _one_line(_unescaped(word[1]))
            elif word[0] not in ("null", "None"):
                owner.labels[owner.key] = word[0]
        return True

    def _enter(self) -> None:
        """Begin an object, whose opening brace was read."""
        entered = _Object(self._position - 1)
        self._open.append(entered)
        self._found.append(entered)

    def _close_all(self) -> None:
        for unfinished in self._open:
            if unfinished is not None:
                unfinished.end = self._position
        self._open.clear()

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
        return match


def _numbers(flat: str, count: int) -> tuple[float, ...] | None:
    """Parse ``count`` comma-separated numbers, clamped to 0..1000; return None for anything else."""
    pieces = [piece.strip(" \t\r\n()") for piece in flat.split(",")]
    if len(pieces) != count or not all(_WHOLE_NUMBER.fullmatch(piece) for piece in pieces):
        return None
    numbers = [float(piece) for piece in pieces]
    return tuple(min(max(number, 0.0), SCALE) for number in numbers) if all(map(math.isfinite, numbers)) else None


def _unescaped(quoted: str) -> str:
    """Resolve JSON and Python escapes; drop a truncated one."""
    plain = _ESCAPE.sub(_unescaped_character, quoted)
    # Join surrogate pairs, and drop lone surrogates, which cannot be printed.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _unescaped_character(escape: re.Match[str]) -> str:
    if code := escape[1] or escape[2] or escape[3]:
        return chr(int(code, 16))
    plain = escape[4] or ""
    return " " if plain and plain in "nrtbf" else plain


def _one_line(label: str) -> str:
    return " ".join(_CONTROLS.sub(" ", label).split())
