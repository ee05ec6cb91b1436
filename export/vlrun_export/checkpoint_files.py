"""Reads the files of a checkpoint folder, which is not trusted: regular files of bounded size inside the folder only.

A link may lead to another file of the folder, or to the ``blobs`` of the Hugging Face cache that the folder is a
snapshot of. Nothing else is opened, so that no other file of this machine ends up in a model folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrun.errors import CheckpointError
from vlrun.models.hf_config.files import CONFIG_BYTES, MIB
from vlrun.storage.regular_files import open_regular, read_regular

TOKENIZER_BYTES = 128 * MIB
"""Limit of tokenizer.json, vocab.json and merges.txt. Qwen's have 11, 3 and 2 MB."""

WEIGHT_BYTES = 1 << 50
"""Limit of a weight file, which is mapped, not read; its header must fit its size."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_BYTES = 1024
"""Git LFS makes no larger pointers."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of the checkpoint folder ``folder``. Names are plain file names. All methods raise CheckpointError."""

    folder: Path

    def has(self, name: str) -> bool:
        """Return whether there is an entry of this name, of any kind."""
        try:
            (self.folder / name).lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unreadable(name, error) from error
        return True

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a regular file of at most ``limit`` bytes that is no Git LFS pointer."""
        try:
            content = read_regular(self.resolve(name), limit, follow=False)
        except OSError as error:
            raise self._unreadable(name, error) from error
        if content.startswith(LFS_POINTER):
            raise CheckpointError(
                f"{name} of '{self.folder}' is a Git LFS pointer, not the file itself: run 'git lfs pull' there"
            )
        return content

    def check_weights(self, name: str) -> Path:
        """Return the path of a regular file of any size, to be mapped, with all links resolved."""
        path = self.resolve(name)
        try:
            descriptor = open_regular(path, WEIGHT_BYTES, follow=False)
            size = os.fstat(descriptor).st_size
            os.close(descriptor)
        except OSError as error:
            raise self._unreadable(name, error) from error
        if size < LFS_POINTER_BYTES:
            self.read(name, LFS_POINTER_BYTES)
        return path

    def text(self, name: str, limit: int) -> str:
        """Return the content of a UTF-8 file."""
        try:
            return self.read(name, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{name} of '{self.folder}' is not valid UTF-8 ({error.reason})") from error

    def json(self, name: str, limit: int = CONFIG_BYTES) -> dict[str, Any]:
        """Return the JSON object in a file."""
        try:
            value = json.loads(self.text(name, limit))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"the {name} of '{self.folder}' is not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise CheckpointError(f"the {name} of '{self.folder}' is not a JSON object")
        return value

    def resolve(self, name: str) -> Path:
        """Return the path of a file with all links resolved, which lies in the folder or in its hub cache."""
        try:
            root = Path(os.path.realpath(self.folder))
            path = Path(os.path.realpath(self.folder / name, strict=True))
        except FileNotFoundError:
            if not self.has(name):
                raise CheckpointError(f"the checkpoint '{self.folder}' lacks {name}") from None
            raise CheckpointError(f"{name} of '{self.folder}' is a link to a file that does not exist") from None
        except OSError as error:
            raise self._unreadable(name, error) from error
        inside = [root, *([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])]
        if not any(path.is_relative_to(folder) for folder in inside):
            raise CheckpointError(
                f"{name} of '{self.folder}' is a link that leaves the checkpoint: copy the file itself into the folder"
            )
        return path

    def error(self, message: str) -> CheckpointError:
        """Return the error for a file that is missing or wrong."""
        return CheckpointError(message)

    def foreign(self, message: str) -> CheckpointError:
        """Return the error for a model that vlrun does not support."""
        return CheckpointError(message)

    def _unreadable(self, name: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"cannot read {name} of '{self.folder}': {error.strerror}")


def open_folder(folder: Path) -> CheckpointFiles:
    """Return the files of a folder. Raises CheckpointError if there is none, or this user may not list it."""
    try:
        with os.scandir(folder):
            return CheckpointFiles(folder)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint folder at '{folder}'") from None
    except NotADirectoryError:
        raise CheckpointError(f"'{folder}' is not a folder: give the folder of the checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"cannot read the folder '{folder}': {error.strerror}") from error
