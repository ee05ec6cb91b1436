"""Boxes and points in an answer: what Qwen writes about places, as marks in the pixels of the user's image.

Knows Qwen's two ways of writing places (objects with ``bbox_2d`` or ``point_2d``, and ``<|box_start|>`` tokens), also
in prose, fenced, badly quoted or cut short; does not know the model, nor how marks are drawn. Reads each character a
bounded number of times and never raises.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from vlrun.media.transform import ImageTransform
from vlrun.types.mark import Mark

GRID = 1000.0
"""Qwen writes places in thousandths of the image's width and height."""


def find_marks(text: str, size: tuple[int, int], frame: ImageTransform) -> tuple[Mark, ...]:
    """The marks of an answer about an image of ``size`` (width, height) that lies in its original as ``frame`` says.

    In the order in which they begin. Values outside 0..1000 are clamped and swapped corners put right; a place that is
    not made of two or four finite numbers is left out. Of an answer cut short the last mark counts if its coordinates
    are complete up to their closing bracket, since ``[10, 20, 30, 4`` may have become 40; its label is then as much as
    was written of it.
    """
    across, down = size[0] / GRID, size[1] / GRID
    marks = []
    for found in _Reader(text).read():
        box = point = None
        if found.box is not None:
            left, top, right, bottom = found.box
            box = frame.box(left * across, top * down, right * across, bottom * down)
        if found.point is not None:
            point = frame.point(found.point[0] * across, found.point[1] * down)
        if box is not None or point is not None:
            marks.append(Mark(found.label, box, point))
    return tuple(marks)


def format_box(mark: Mark, size: tuple[int, int]) -> dict[str, object]:
    """The JSON object that Qwen writes for the box of a mark in an image of ``size`` (width, height)."""
    edges = zip(mark.box or (), (*size, *size), strict=False)
    return {_BOX_KEY: [round(edge / side * GRID) for edge, side in edges], "label": mark.label}


_BOX_KEY, _POINT_KEY = "bbox_2d", "point_2d"
_LABEL_KEYS = ("label", "text_content", "sub_label")
"""The first of them that an object has is its label: text spotting has no ``label``, other tasks have both others."""

# No two repetitions that take the same characters stand side by side, and each ends before what may begin the next
# attempt: that is what keeps the walk linear.
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
# A label may hold quotes that the model forgot to escape: the closing one has a comma, a bracket or an end behind it.
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
    """What was read so far between two braces; coordinates in thousandths."""

    key: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    box: tuple[float, ...] | None = None
    point: tuple[float, ...] | None = None

    @property
    def label(self) -> str:
        return next((label for key in _LABEL_KEYS if (label := self.labels.get(key))), "")


class _Reader:
    """Walks once through an answer. Outside of braces it is prose, whose quotes and square brackets mean nothing.

    Within braces whatever fits no rule makes everything open count as ended, and the walk goes on from there as prose.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._open: list[_Object | None] = []  # a list is None: nothing in it belongs to a key
        self._found: list[_Object] = []
        self._reference = ""

    def read(self) -> list[_Object]:
        while self._place < len(self._text):
            if not self._open:
                self._prose()
            elif not self._member():
                self._open.clear()
        return self._found

    def _prose(self) -> None:
        """Go on to the next place where something may begin."""
        match = _OPENING.search(self._text, self._place)
        if match is None:
            self._place = len(self._text)
            return
        self._place = match.end()
        labels = {"label": self._reference}
        if match["label"] is not None:
            self._reference = _one_line(match["label"])
        elif match["corner"] is None:
            self._enter()
        elif match["other"] is not None:
            self._found.append(_Object(labels=labels, box=_numbers(f"{match['corner']},{match['other']}", 4)))
        elif match["end"] is not None:  # without it a second corner may have been about to come
            self._found.append(_Object(labels=labels, point=_numbers(match["corner"], 2)))

    def _member(self) -> bool:
        """Read the next member of what is open, or its end; false if there is neither."""
        self._take(_GAP)
        if self._place == len(self._text):
            return True
        innermost = self._open[-1]
        if self._text[self._place] == ("]" if innermost is None else "}"):
            self._place += 1
            self._open.pop()
            return True
        if innermost is None:
            return self._value(None)
        key = self._take(_KEY)
        if key is None:
            return False
        innermost.key = key["a"] or key["b"] or key["c"] or ""
        return self._value(innermost)

    def _value(self, owner: _Object | None) -> bool:
        """Read a value and, if it is one that counts, give it to ``owner``; false if there is none."""
        key = owner.key if owner else ""
        if owner and key in (_BOX_KEY, _POINT_KEY) and (flat := self._take(_FLAT)):
            if key == _BOX_KEY:
                owner.box = _numbers(flat[1], 4)
            else:
                owner.point = _numbers(flat[1], 2)
            return True
        first = self._text[self._place : self._place + 1]
        if first == "{":
            self._place += 1
            self._enter()
        elif first == "[":
            self._place += 1
            self._open.append(None)
        else:
            return self._word(owner, first)
        return True

    def _word(self, owner: _Object | None, first: str) -> bool:
        """Read a string, a number or a constant; false if there is none."""
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
        begun = _Object()
        self._open.append(begun)
        self._found.append(begun)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._place)
        if match is not None:
            self._place = match.end()
        return match


def _numbers(flat: str, count: int) -> tuple[float, ...] | None:
    """So many numbers between commas, clamped to the grid; None if they are not that."""
    pieces = [piece.strip(" \t\r\n()") for piece in flat.split(",")]
    if len(pieces) != count or not all(_WHOLE_NUMBER.fullmatch(piece) for piece in pieces):
        return None
    numbers = [float(piece) for piece in pieces]
    return tuple(min(max(number, 0.0), GRID) for number in numbers) if all(map(math.isfinite, numbers)) else None


def _unescaped(quoted: str) -> str:
    """The string that JSON or Python means; of an escape cut short nothing."""
    plain = _ESCAPE.sub(_meant, quoted)
    # JSON escapes characters beyond the first 65,536 as two halves; a half alone cannot be printed.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _meant(escape: re.Match[str]) -> str:
    if code := escape[1] or escape[2] or escape[3]:
        return chr(int(code, 16))
    plain = escape[4] or ""
    return " " if plain and plain in "nrtbf" else plain


def _one_line(label: str) -> str:
    return " ".join(_CONTROLS.sub(" ", label).split())
