"""Where a model of the store came from, and the checksums of its files. It lies in the model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from vlrun.errors import DamagedModel
from vlrun.manifest import FileEntry
from vlrun.storage.regular_files import read_regular

SOURCE = "vlrun-source.json"
MAX_SOURCE_BYTES = 1 << 20
"""A model of the largest allowed number of files has 100 kB."""
MAX_FILES = 512
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """The origin of a model.

    Attributes:
        origin: The repository, or the folder that was added.
        revision: What was asked for, such as ``main``.
        commit: The commit that it was at that time.
        endpoint: The hub.
        weights: The precision that a checkpoint was converted to.
        files: Size and SHA-256 of every file.
    """

    origin: Text
    revision: Text = ""
    commit: Text = ""
    endpoint: Text = ""
    weights: Text = ""
    files: Annotated[Mapping[str, FileEntry], msgspec.Meta(max_length=MAX_FILES)] = {}

    @property
    def description(self) -> str:
        """The origin with the beginning of the commit, for users."""
        return f"{self.origin}@{self.commit[:12]}" if self.commit else self.origin


def read_source(folder: Path) -> Source | None:
    """Return the source of a model folder; None if it has none. Raises DamagedModel."""
    try:
        return msgspec.json.decode(read_regular(folder / SOURCE, MAX_SOURCE_BYTES, follow=False), type=Source)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedModel(f"cannot read {SOURCE} in '{folder}': {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {SOURCE} of '{folder}' is damaged ({error}): pull or copy the model again") from error


def write_source(folder: Path, source: Source) -> None:
    """Write the source of a model folder that nobody uses yet. Raises OSError."""
    encoded = msgspec.json.format(msgspec.json.encode(source), indent=2)
    (folder / SOURCE).write_bytes(encoded + b"\n")
