"""Translates regular expressions of schemas so that they match only what every dialect matches.

ECMAScript, Python's re and llguidance differ in details: a digit is one of ten in one of them and any Unicode
digit in another. Patterns that cannot be translated are rejected.
"""

from __future__ import annotations

import re

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
_ANY = "[^\\n\\r\\x{2028}\\x{2029}]"
_ESCAPE = r"\\(?:x..|u....|.)"
_TOKEN = re.compile(
    rf"""(?P<quantifier>(?:[*+?]|\{{(?P<low>[0-9]{{1,9}})(?:,(?P<high>[0-9]{{1,9}})?)?\}})\??)
    |(?P<open>\((?!\?)|\(\?:)|(?P<close>\))|(?P<anchor>[\^$|])|(?P<any>\.)|(?P<escape>{_ESCAPE})
    |\[(?P<negated>\^?)(?P<members>(?:\\.|[^\]\\])+)\]|(?P<literal>.)""",
    re.VERBOSE | re.DOTALL,
)
_RANGE = re.compile(rf"(?P<first>{_ESCAPE}|.)(?:-(?P<last>{_ESCAPE}|.))?", re.DOTALL)


def translate_pattern(pattern: str, where: str) -> str:
    """Translate a pattern for llguidance. Raises OptionError, naming ``where``, if that is impossible."""
    if len(pattern) > MAX_PATTERN:
        raise OptionError(f"the pattern at {where} is longer than {MAX_PATTERN} characters")
    try:
        translated = _translate(pattern)
        re.compile(pattern)
    except OptionError as refusal:
        raise OptionError(f"the pattern at {where} has {refusal.message}, which is not supported") from None
    except (re.error, IndexError, RecursionError, OverflowError) as error:
        raise OptionError(f"the pattern at {where} is not a regular expression", error) from error
    return translated


def _translate(pattern: str) -> str:
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
        out.append(_translate_token(token))
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


def _translate_token(token: re.Match[str]) -> str:
    kind, text = token.lastgroup, token.group()
    if kind == "open":
        return "(?:"
    if kind == "any":
        return _ANY
    if kind == "members":
        return f"[{token['negated']}{_translate_class(token['members'], bool(token['negated']))}]"
    if kind == "literal" and text in "([{":
        raise OptionError(f"an unsupported group or class, or '{text}' without a backslash")
    return _translate_character(text) if kind in ("escape", "literal") else text


def _translate_class(members: str, negated: bool) -> str:
    out = []
    for member in _RANGE.finditer(members):
        for end in ("first", "last"):
            # Set operators in one dialect, characters in another.
            letter = member[end]
            if letter == "[" or (letter in ("-", "&", "~", "|") and members.startswith(letter, member.end(end))):
                raise OptionError(f"'{letter}' without a backslash in a class")
        ends = [_translate_character(member[end], negated, in_class=True) for end in ("first", "last") if member[end]]
        if len(ends) > 1 and (member["last"] == "-" or any(end.startswith("[") for end in ends)):
            raise OptionError("a range from or to a class or '-'")
        out.append("-".join(ends))
    return "".join(out)


def _translate_character(text: str, negated: bool = False, in_class: bool = False) -> str:
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
    narrow, wide = _NARROW_WIDE[letter.lower()]
    # A negated class excludes its members, so the wide set is the safe one there.
    if letter.islower():
        return f"[{wide if negated and in_class else narrow}]"
    return f"[^{narrow if negated and in_class else wide}]"
