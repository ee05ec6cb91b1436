"""The files of a Hugging Face folder, however they are opened, and the errors that they raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from vlrun.errors import VlrunError

MIB = 2**20
CONFIG_BYTES = 16 * MIB
"""Limit of a configuration file; published ones have up to 10 KB, and the index of the largest model 100 KB."""
TEMPLATE_BYTES = MIB
"""Limit of a chat template; the published ones have 5 KB."""


class ConfigFiles(Protocol):
    """The files of a folder. All methods raise what ``error`` returns."""

    @property
    def folder(self) -> Path:
        """The folder, for messages."""

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""

    def text(self, name: str, limit: int) -> str:
        """Return the content of a UTF-8 file of at most ``limit`` bytes."""

    def json(self, name: str, limit: int = CONFIG_BYTES) -> dict[str, Any]:
        """Return the JSON object in a file."""

    def error(self, message: str) -> VlrunError:
        """Return the error for a file that is missing or wrong."""

    def foreign(self, message: str) -> VlrunError:
        """Return the error for a model that vlrun does not support."""
