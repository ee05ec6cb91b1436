"""Regular expressions of schemas, translated so that all dialects agree on what they match.

Knows the syntax that ECMAScript, Python's re and llguidance share, and where they differ: a digit is one of ten in one
and any of Unicode's in another. The translation matches only what every dialect matches. Knows no schema.
"""

from __future__ import annotations

import re

from vlrun.errors import OptionError

MAX_PATTERN = 500
"""Characters in one pattern."""
MAX_REPEAT = 500
"""The largest count in braces, and the largest product of counts nested in each other."""
MAX_GROUPS = 16
"""Parentheses inside each other."""

_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_CONTROL = {"n": "\\n", "t": "\\t", "r": "\\r", "f": "\\x0C", "v": "\\x0B"}
# Each class as (what all dialects put into it, what any of them puts into it), to stand inside brackets.
_NARROW_WIDE = {
    "d": ("0-9", "\\p{Nd}"),
    "w": ("0-9A-Za-z_", "\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}\\p{Join_Control}"),
    "s": (" \\t\\n\\r\\x0C\\x0B", "\\p{White_Space}\\x1C-\\x1F\\x{FEFF}"),
}
_ANY = "[^\\n\\r\\x{2028}\\x{2029}]"
_QUANTIFIER = re.compile(r"(?:[*+?]|\{([0-9]{1,9})(,([0-9]{1,9})?)?\})\??")


def translate(pattern: str, where: str) -> str:
    """The pattern for llguidance. Raises OptionError, naming the place ``where``, for what dialects read otherwise."""
    if len(pattern) > MAX_PATTERN:
        raise OptionError(f"the pattern at {where} is longer than {MAX_PATTERN} characters")
    try:
        translated = _Translation(pattern, where).run()
        re.compile(pattern)
    except (re.error, IndexError, RecursionError, OverflowError) as error:
        raise OptionError(f"the pattern at {where} is no regular expression", error) from error
    return translated


class _Translation:
    """One pass over one pattern."""

    def __init__(self, pattern: str, where: str) -> None:
        self._pattern = pattern
        self._where = where
        self._at = 0
        self._out: list[str] = []
        # For each open group, and for the whole: the largest product of counts in it; and that of the latest atom.
        self._weights = [1]
        self._atom: int | None = None

    def run(self) -> str:
        while self._at < len(self._pattern):
            self._step()
        return "".join(self._out)

    def _step(self) -> None:
        letter = self._pattern[self._at]
        if letter in "*+?{":
            self._quantify()
        elif letter == "(":
            self._open()
        elif letter == ")":
            self._take(")", weight=self._weights.pop())
        elif letter in "^$|":
            self._take(letter, weight=None)
        elif letter == "[":
            self._at += 1
            self._out.append(self._bracket())
            self._count(1)
        elif letter == ".":
            self._take(_ANY, weight=1)
        elif letter == "\\":
            self._out.append(self._escape(negated=False, inside=False))
            self._count(1)
        else:
            self._take("\\" + letter if letter in _PUNCTUATION else letter, weight=1)

    def _take(self, text: str, weight: int | None) -> None:
        """One letter read, and what it becomes; ``weight`` None: no quantifier may follow."""
        self._out.append(text)
        self._at += 1
        self._count(weight)

    def _count(self, weight: int | None) -> None:
        self._atom = weight
        self._weights[-1] = max(self._weights[-1], weight or 1)

    def _open(self) -> None:
        if self._pattern.startswith("(?:", self._at):
            self._at += 2
        elif self._pattern.startswith("(?", self._at):
            raise self._refusal("a group other than (...) and (?:...)")
        if len(self._weights) > MAX_GROUPS:
            raise self._refusal(f"more than {MAX_GROUPS} groups inside each other")
        self._take("(?:", weight=None)
        self._weights.append(1)

    def _quantify(self) -> None:
        match = _QUANTIFIER.match(self._pattern, self._at)
        if match is None or self._atom is None:
            raise self._refusal(f"'{self._pattern[self._at]}' where it repeats nothing")
        counts = [int(count) for count in (match[1], match[3]) if count is not None]
        weight = self._atom * max(counts, default=1)
        if max(weight, *counts, 1) > MAX_REPEAT:
            raise self._refusal(f"more than {MAX_REPEAT} repetitions")
        self._out.append(match.group())
        self._at = match.end()
        self._count(weight)
        self._atom = None  # a second quantifier is possessive in one dialect and an error in another

    def _bracket(self) -> str:
        """A class in brackets, from behind its opening bracket."""
        negated = self._pattern.startswith("^", self._at)
        self._at += negated
        members: list[str] = []
        while not self._pattern.startswith("]", self._at):
            members.append(self._member(negated))
        if not members:
            raise self._refusal("an empty class")
        self._at += 1
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self, negated: bool) -> str:
        first = self._class_letter(negated)
        dash = self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at)
        if not dash:
            return first
        self._at += 1
        if self._pattern.startswith("-", self._at):
            raise self._refusal("'-' without a backslash in a class")
        last = self._class_letter(negated)
        if "[" in (first[0], last[0]):
            raise self._refusal("a range from or to a class")
        return f"{first}-{last}"

    def _class_letter(self, negated: bool) -> str:
        letter = self._pattern[self._at]
        if letter == "\\":
            return self._escape(negated, inside=True)
        self._at += 1
        # Set operations in one dialect, plain letters in another.
        if letter == "[" or (letter in "-&~|" and self._pattern.startswith(letter, self._at)):
            raise self._refusal(f"'{letter}' without a backslash in a class")
        return "\\" + letter if letter in _PUNCTUATION else letter

    def _escape(self, negated: bool, inside: bool) -> str:
        """What a backslash and the letters behind it become."""
        letter = self._pattern[self._at + 1]
        if letter in "xu":
            digits = 2 if letter == "x" else 4
            start = self._at + 2
            self._at = start + digits
            return f"\\x{{{self._pattern[start : self._at]}}}"
        self._at += 2
        if letter in _PUNCTUATION:
            return "\\" + letter
        if letter in _CONTROL:
            return _CONTROL[letter]
        if letter.lower() not in _NARROW_WIDE:
            raise self._refusal(f"'\\{letter}'")
        narrow, wide = _NARROW_WIDE[letter.lower()]
        # In a class with ^ the members are what must not match, so there the wide reading is the careful one.
        if letter.islower():
            return f"[{wide if negated and inside else narrow}]"
        return f"[^{narrow if negated and inside else wide}]"

    def _refusal(self, what: str) -> OptionError:
        return OptionError(f"the pattern at {self._where} has {what}, which is not supported")
