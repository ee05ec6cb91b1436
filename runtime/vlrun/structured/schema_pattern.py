"""Translates regular expressions of schemas so that they match only what every dialect matches.

ECMAScript, Python's re and llguidance differ in details: a digit is one of ten in one of them and any Unicode
digit in another. Patterns that cannot be translated are rejected. llguidance has no look-ahead: one at the start of a
pattern becomes a pattern of its own, which must match or must not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlrun.errors import OptionError

MAX_PATTERN = 500  # characters of one pattern
MAX_REPEAT = 500  # the largest count in braces, and the largest product of nested counts
MAX_GROUPS = 16  # nesting of parentheses

_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_CONTROL = {"n": "\\n", "t": "\\t", "r": "\\r", "f": "\\x0C", "v": "\\x0B"}
# Each class as (the characters in all dialects, the characters in any dialect), for use in brackets.
_NARROW_WIDE = {
    "d": ("0-9", "\\p{Nd}"),
    "w": ("0-9A-Za-z_", "\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}\\p{Join_Control}"),
    "s": (" \\t\\n\\r\\x0C\\x0B", "\\p{White_Space}\\x1C-\\x1F\\x{FEFF}"),
}
_ANY_NARROW, _ANY_WIDE = "[^\\n\\r\\x{2028}\\x{2029}]", "[^\\n]"
_ESCAPE = r"\\(?:x..|u....|.)"
_TOKEN = re.compile(
    rf"""(?P<quantifier>(?:[*+?]|\{{(?P<low>[0-9]{{1,9}})(?:,(?P<high>[0-9]{{1,9}})?)?\}})\??)
    |(?P<open>\((?!\?)|\(\?:)|(?P<close>\))|(?P<anchor>[\^$|])|(?P<any>\.)|(?P<escape>{_ESCAPE})
    |\[(?P<negated>\^?)(?P<members>(?:\\.|[^\]\\])+)\]|(?P<literal>.)""",
    re.VERBOSE | re.DOTALL,
)
_SKIPPED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_LOOKAHEAD = re.compile(r"\(\?(?P<kind>[=!])")
_RANGE = re.compile(rf"(?P<first>{_ESCAPE}|.)(?:-(?P<last>{_ESCAPE}|.))?", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """A translated pattern: all of ``required`` must match a string, and none of ``forbidden``."""

    required: tuple[str, ...]
    forbidden: tuple[str, ...] = ()


def translate_pattern(pattern: str, where: str) -> Pattern:
    """Translate a pattern for llguidance. Raises OptionError, naming ``where``, if that is impossible."""
    if len(pattern) > MAX_PATTERN:
        raise OptionError(f"the pattern at {where} is longer than {MAX_PATTERN} characters")
    try:
        translated = _without_lookaheads(pattern)
        re.compile(pattern)
    except OptionError as refusal:
        raise OptionError(f"the pattern at {where} has {refusal.message}, which is not supported") from None
    except (re.error, IndexError, RecursionError, OverflowError) as error:
        raise OptionError(f"the pattern at {where} is not a regular expression", error) from error
    return translated


def _without_lookaheads(pattern: str) -> Pattern:
    """Split a pattern that begins with ``^`` and look-aheads."""
    rest = pattern.removeprefix("^")
    if not _LOOKAHEAD.match(rest):
        return Pattern((_translate(pattern, wide=False),))
    if rest == pattern:
        raise OptionError("a look-ahead that does not follow '^'")
    required, forbidden = list[str](), list[str]()
    while lookahead := _LOOKAHEAD.match(rest):
        end = _end_of_group(rest)
        content = rest[lookahead.end() : end].removeprefix("^")
        negative = lookahead["kind"] == "!"
        (forbidden if negative else required).append(f"^(?:{_translate(content, wide=negative)})")
        rest = rest[end + 1 :]
    if rest[:1] in ("*", "+", "?", "{"):
        raise OptionError(f"'{rest[0]}' where it repeats nothing")
    # In a group, so that a choice stays behind the look-aheads.
    required.append(f"^(?:{_translate(rest, wide=False)})")
    return Pattern(tuple(required), tuple(forbidden))


def _end_of_group(pattern: str) -> int:
    """Return the index of the parenthesis that closes the one at the start. Raises IndexError if there is none."""
    depth = 0
    for token in _SKIPPED.finditer(pattern):
        depth += {"(": 1, ")": -1}.get(token.group(), 0)
        if depth == 0:
            return token.start()
    raise IndexError


def _translate(pattern: str, wide: bool) -> str:
    """Translate a pattern to one that matches what all dialects match, or with ``wide`` what any dialect matches."""
    out: list[str] = []
    weights = [1]  # largest product of counts so far, in the whole pattern and in each open group
    atom: int | None = None  # product of counts in the last atom; None where no quantifier may follow
    for token in _TOKEN.finditer(pattern):
        kind, weight = token.lastgroup, 1
        if kind == "open":
            if len(weights) > MAX_GROUPS:
                raise OptionError(f"more than {MAX_GROUPS} nested groups")
            weights.append(1)
        elif kind == "close":
            weight = weights.pop()
        elif kind == "quantifier":
            weight = _repeated(token, atom)
        out.append(_translate_token(token, wide))
        weights[-1] = max(weights[-1], weight)
        # A second quantifier is possessive in one dialect and an error in another.
        atom = None if kind in ("open", "anchor", "quantifier") else weight
    return "".join(out)


def _repeated(token: re.Match[str], atom: int | None) -> int:
    """Return the product of counts after a quantifier."""
    if atom is None:
        raise OptionError(f"'{token.group()[0]}' where it repeats nothing")
    counts = [int(count) for count in (token["low"], token["high"]) if count]
    weight = atom * max(counts, default=1)
    if max(weight, *counts, 1) > MAX_REPEAT:
        raise OptionError(f"more than {MAX_REPEAT} repetitions")
    return weight


def _translate_token(token: re.Match[str], wide: bool) -> str:
    kind, text = token.lastgroup, token.group()
    if kind == "open":
        return "(?:"
    if kind == "any":
        return _ANY_WIDE if wide else _ANY_NARROW
    if text == "$" and kind == "anchor" and wide:
        return "\\n?$"  # in Python also before a line break at the end
    if kind == "members":
        # A negated class excludes its members, so the wide set is the safe one there.
        members = _translate_class(token["members"], wide != bool(token["negated"]))
        return f"[{token['negated']}{members}]"
    if kind == "literal" and text in "([{":
        raise OptionError(f"an unsupported group or class, or '{text}' without a backslash")
    return _translate_character(text, wide) if kind in ("escape", "literal") else text


def _translate_class(members: str, wide: bool) -> str:
    out = []
    for member in _RANGE.finditer(members):
        for end in ("first", "last"):
            # Set operators in one dialect, characters in another.
            letter = member[end]
            if letter == "[" or (letter in ("-", "&", "~", "|") and members.startswith(letter, member.end(end))):
                raise OptionError(f"'{letter}' without a backslash in a class")
        ends = [_translate_character(member[end], wide) for end in ("first", "last") if member[end]]
        if len(ends) > 1 and (member["last"] == "-" or any(end.startswith("[") for end in ends)):
            raise OptionError("a range from or to a class or '-'")
        out.append("-".join(ends))
    return "".join(out)


def _translate_character(text: str, wide: bool) -> str:
    """Translate a character or an escape."""
    if len(text) > len("\\d"):  # \xHH or \uHHHH
        return f"\\x{{{text[2:]}}}"
    letter = text[-1]
    if letter in _PUNCTUATION:
        return letter if letter in "<>" else "\\" + letter  # escaped, < and > are word boundaries
    if len(text) == 1:
        return text
    if letter in _CONTROL:
        return _CONTROL[letter]
    if letter.lower() not in _NARROW_WIDE:
        raise OptionError(f"'\\{letter}'")
    narrow_set, wide_set = _NARROW_WIDE[letter.lower()]
    return f"[{wide_set if wide else narrow_set}]" if letter.islower() else f"[^{narrow_set if wide else wide_set}]"
