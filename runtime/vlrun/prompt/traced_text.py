"""Text that knows where its characters come from: the template, the caller, or an earlier answer.

Templates see ordinary strings: every operation gives the same characters as on ``str``. Where an operation has no
traced form, its result is plain text, which counts as the caller's: it can never become a control token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Origins: TypeAlias = npt.NDArray[np.int32]
"""One number per character: ``TEMPLATE``, ``GIVEN``, or the position in the generated texts, counted through."""

TEMPLATE = -1
GIVEN = -2


class TracedText(str):
    """A string with the origins of its characters. Templates cannot reach the origins: their name is private."""

    __slots__ = ("_origins",)
    _origins: Origins

    def __new__(cls, text: str, origins: Origins | int = GIVEN) -> TracedText:
        """Return ``text`` with one origin for each character, or one for all."""
        traced = super().__new__(cls, text)
        traced._origins = np.full(len(text), origins, np.int32) if isinstance(origins, int) else origins
        return traced

    def __str__(self) -> str:
        return self

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        text = super().__getitem__(index)
        origins = self._origins[index] if isinstance(index, slice) else self._origins[index, None]
        return TracedText(text, origins)

    def __add__(self, other: object) -> str:
        return joined([self, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: object) -> str:
        return joined([other, self]) if isinstance(other, str) else NotImplemented

    def __mul__(self, count: SupportsIndex) -> str:
        return TracedText(super().__mul__(count), np.tile(self._origins, max(0, count.__index__())))

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        given = values if isinstance(values, tuple) else (values,)
        if isinstance(values, Mapping):
            return formatted(lambda _, named: str.__mod__(self, named), self, (), values)
        return formatted(lambda positional, _: str.__mod__(self, positional), self, given, {})

    def strip(self, characters: str | None = None, /) -> str:
        """As ``str.strip``."""
        return cast("TracedText", self.lstrip(characters)).rstrip(characters)

    def lstrip(self, characters: str | None = None, /) -> str:
        """As ``str.lstrip``."""
        return self[len(self) - len(super().lstrip(characters)) :]

    def rstrip(self, characters: str | None = None, /) -> str:
        """As ``str.rstrip``."""
        return self[: len(super().rstrip(characters))]

    def removeprefix(self, prefix: str, /) -> str:
        """As ``str.removeprefix``."""
        return self[len(self) - len(super().removeprefix(prefix)) :]

    def removesuffix(self, suffix: str, /) -> str:
        """As ``str.removesuffix``."""
        return self[: len(super().removesuffix(suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As ``str.split``."""
        return self._located(super().split(sep, maxsplit), 0 if sep is None else len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As ``str.rsplit``."""
        return self._located(super().rsplit(sep, maxsplit), 0 if sep is None else len(sep))

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As ``str.splitlines``."""
        whole = iter(self._located(super().splitlines(True), 0))
        return [line[: len(kept)] for line, kept in zip(whole, super().splitlines(keepends), strict=True)]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """As ``str.partition``."""
        return cast("tuple[str, str, str]", tuple(self._located(super().partition(sep), 0)))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """As ``str.rpartition``."""
        return cast("tuple[str, str, str]", tuple(self._located(super().rpartition(sep), 0)))

    def replace(self, old: str, new: str, /, count: SupportsIndex = -1) -> str:
        """As ``str.replace``."""
        if old:
            return traced(new).join(self.split(old, count))
        replaced = super().replace(old, new, count)
        times = len(self) + 1 if count.__index__() < 0 else min(len(self) + 1, count.__index__())
        pieces = [piece for index in range(times) for piece in (new, self[index : index + 1])]
        result = joined([*pieces, self[times:]])
        return result if result == replaced else replaced

    def join(self, pieces: Iterable[str], /) -> str:
        """As ``str.join``."""
        separated = [piece for text in pieces for piece in (self, text)]
        return joined(separated[1:])

    def lower(self) -> str:
        """As ``str.lower``."""
        return self._mapped(super().lower())

    def upper(self) -> str:
        """As ``str.upper``."""
        return self._mapped(super().upper())

    def capitalize(self) -> str:
        """As ``str.capitalize``."""
        return self._mapped(super().capitalize())

    def title(self) -> str:
        """As ``str.title``."""
        return self._mapped(super().title())

    def _mapped(self, text: str) -> str:
        """Return a text whose characters stand for those of this one, if there are as many."""
        return TracedText(text, self._origins) if len(text) == len(self) else text

    def _located(self, pieces: Sequence[str], gap: int) -> list[str]:
        """Return pieces of this text, in order, with their origins. ``gap``: characters between two; 0 is any."""
        located, cursor = [], 0
        for piece in pieces:
            start = cursor if gap else self.index(piece, cursor)
            cursor = start + len(piece)
            located.append(self[start:cursor])
            cursor += gap
        return located


def traced(text: str) -> TracedText:
    """Return text with origins; plain text is the caller's."""
    return text if isinstance(text, TracedText) else TracedText(text)


def plain(text: str) -> str:
    """Return text without origins."""
    return str.__str__(text)


def origins_of(text: str) -> Origins:
    """Return the origins of a text's characters."""
    return traced(text)._origins


def joined(pieces: Sequence[str]) -> str:
    """Join texts. The result is plain if all are."""
    text = "".join(pieces)
    if not any(isinstance(piece, TracedText) for piece in pieces):
        return text
    return TracedText(text, np.concatenate([origins_of(piece) for piece in pieces]))


def formatted(
    apply: Callable[[tuple[Any, ...], Mapping[str, Any]], str],
    template: str,
    positional: tuple[Any, ...],
    named: Mapping[str, Any],
) -> str:
    """Format texts into ``template`` with ``apply``, and find out where they went.

    The texts are formatted once as they are and once as marks. If an operation looks into a text, as a width does, the
    result is plain.
    """
    result = str(apply(positional, named))
    texts: list[str] = []
    secret = secrets.token_hex(8)

    def mark(value: object) -> object:
        if not isinstance(value, str):
            return value
        texts.append(value)
        return f"{secret}:{len(texts) - 1}:"

    marked = apply(tuple(map(mark, positional)), {name: mark(value) for name, value in named.items()})
    pieces: list[str] = re.split(f"{secret}:([0-9]+):", str(marked))
    uniform = np.unique(origins_of(template))
    origin = int(uniform[0]) if len(uniform) == 1 and uniform[0] < 0 else GIVEN
    parts = [texts[int(one)] if odd % 2 else TracedText(one, origin) for odd, one in enumerate(pieces)]
    whole = joined(parts)
    return whole if whole == result else result
