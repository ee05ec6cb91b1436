"""Typed and bounded values of a JSON object. ``null`` means not set, as in transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlrun.errors import VlrunError
from vlrun.models.hf_config.files import ConfigFiles

LARGEST = 2**31 - 1
"""Limit of whole numbers without a smaller one."""
SHOWN = 40
"""Characters of a wrong value in a message."""


@dataclass(frozen=True)
class Section:
    """An object of a JSON file.

    Attributes:
        files: The files of the folder, which name the error.
        source: The file, for messages: ``config.json of 'folder'``.
        values: The object.
        path: Where it lies in the file: ``text_config.``, or empty.

    All methods raise ``files.error`` for a wrong value, or for a missing one without a default.
    """

    files: ConfigFiles
    source: str
    values: Mapping[str, Any]
    path: str = ""

    def has(self, key: str) -> bool:
        """Return whether a value is set."""
        return self.values.get(key) is not None

    def section(self, key: str) -> Section:
        """Return the object ``key``."""
        value = self._value(key, None)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Section(self.files, self.source, value, f"{self.path}{key}.")

    def integer(self, key: str, low: int, high: int = LARGEST, default: int | None = None) -> int:
        """Return a whole number between ``low`` and ``high``."""
        value = self._value(key, default)
        if not _is_integer(value) or not low <= value <= high:
            raise self.wrong(key, f"a whole number between {low} and {high}")
        return int(value)

    def integers(self, key: str, low: int, high: int = LARGEST) -> list[int]:
        """Return a list of whole numbers between ``low`` and ``high``."""
        value = self._value(key, None)
        if not isinstance(value, list) or not all(_is_integer(item) and low <= item <= high for item in value):
            raise self.wrong(key, f"a list of whole numbers between {low} and {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number between ``low`` and ``high``."""
        value = self._value(key, default)
        if not _is_number(value) or not low <= value <= high:  # NaN too
            raise self.wrong(key, f"a number between {low:g} and {high:g}")
        return float(value)

    def rgb(self, key: str, low: float, high: float) -> tuple[float, float, float]:
        """Return three numbers between ``low`` and ``high``."""
        value = self._value(key, None)
        if not isinstance(value, list) or len(value) != 3 or not all(_is_number(x) and low <= x <= high for x in value):
            raise self.wrong(key, f"three numbers between {low:g} and {high:g}")
        red, green, blue = map(float, value)
        return red, green, blue

    def flag(self, key: str, default: bool) -> bool:
        """Return a truth value."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def string(self, key: str) -> str:
        """Return a text."""
        value = self._value(key, None)
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def wrong(self, key: str, expected: str) -> VlrunError:
        """Return the error for the value of ``key``, which should be ``expected``."""
        shown = json.dumps(self.values.get(key), default=str)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        return self.files.error(f"{self.path}{key} in the {self.source} must be {expected}, not {shown}")

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise self.files.error(f"the {self.source} lacks {self.path}{key}")
        return default if value is None else value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
