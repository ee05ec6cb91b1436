"""Checks of arguments from untyped callers. Each raises OptionError, which names the argument and its type.

NumPy's integers, floats and booleans become Python's, so that they are accepted wherever Python's are.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from vlrun.errors import OptionError

T = TypeVar("T")


def whole_number(name: str, value: object) -> int:
    """Return an integer. A boolean is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _wrong(name, "a whole number", value)
    return int(value)


def number(name: str, value: object) -> float:
    """Return a number, an integer as such. A boolean is none; NaN and infinity are left to the range checks."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong(name, "a number", value)
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def flag(name: str, value: object) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise _wrong(name, "true or false", value)
    return bool(value)


def text(name: str, value: object) -> str:
    """Return a string."""
    return instance(str, "a text")(name, value)


def path(name: str, value: object) -> Path:
    """Return a path that was given as a string or path object and is not empty."""
    if not isinstance(value, str | os.PathLike) or not isinstance(given := os.fspath(value), str):
        raise _wrong(name, "a path", value)
    if not given:
        raise OptionError(f"{name} must be a path, not an empty text")
    return Path(given)


def instance(kind: type[T], what: str = "") -> Callable[[str, object], T]:
    """Return a check for instances of a class, called ``what`` in messages."""

    def check(name: str, value: object) -> T:
        if not isinstance(value, kind):
            raise _wrong(name, what or f"a vlrun.{kind.__name__}", value)
        return value

    return check


def iterable(name: str, value: Iterable[T]) -> Iterable[T]:
    """Return an iterable. A text is none: its members are characters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _wrong(name, "an iterable, such as a list", value)
    return value


def mapping(name: str, value: object) -> Mapping[str, object]:
    """Return a mapping, such as a dictionary."""
    if not isinstance(value, Mapping):
        raise _wrong(name, "a mapping", value)
    return value


def has_method(method: str, what: str) -> Callable[[str, object], object]:
    """Return a check for objects with a method, called ``what`` in messages. It spares the import of their class."""

    def check(name: str, value: object) -> object:
        if not callable(getattr(value, method, None)):
            raise _wrong(name, what, value)
        return value

    return check


def one_of(choices: Collection[str]) -> Callable[[str, object], str]:
    """Return a check for one of several texts."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise OptionError(f"{name} must be one of {', '.join(choices)}, not {value!r:.80}")
        return value

    return check


def optional(check: Callable[[str, object], T]) -> Callable[[str, object], T | None]:
    """Return a check that also accepts None."""
    return lambda name, value: None if value is None else check(name, value)


def tuple_of(check: Callable[[str, object], T], what: str) -> Callable[[str, object], tuple[T, ...]]:
    """Return a check for a tuple or list, called a tuple of ``what`` in messages, of checked members."""

    def check_all(name: str, value: object) -> tuple[T, ...]:
        if not isinstance(value, tuple | list):
            raise _wrong(name, f"a tuple of {what}", value)
        return tuple(check(f"{name}[{index}]", member) for index, member in enumerate(value))

    return check_all


def check_fields(owner: object, checks: Mapping[str, Callable[[str, object], object]]) -> None:
    """Check attributes of a frozen dataclass, and replace them by what the checks return."""
    for name, check in checks.items():
        given = getattr(owner, name)
        checked = check(name, given)
        if checked is not given:
            object.__setattr__(owner, name, checked)


def _wrong(name: str, what: str, value: object) -> OptionError:
    return OptionError(f"{name} must be {what}, not {type(value).__name__}")
