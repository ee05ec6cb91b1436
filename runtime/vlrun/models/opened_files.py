"""The files of a folder, each opened once. What happens to the folder's path later has no effect."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import DamagedModel, ModelNotFound
from vlrun.manifest import CHAT_TEMPLATE, TOKENIZER
from vlrun.models.store.in_use import hold
from vlrun.storage.regular_files import open_regular, read_descriptor

MIB = 2**20
MAX_BYTES = {
    ".bin": 2**40,
    ".data": 2**40,
    ".xml": 64 * MIB,
    ".onnx": 64 * MIB,
    TOKENIZER: 64 * MIB,
    CHAT_TEMPLATE: MIB // 4,
}
"""Limits by name or suffix. The published models have 11 MB of tokenizer, 5 kB of template and 1 MB of XML."""
MAX_OTHER_BYTES = 64 * MIB
HASH_BYTES = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """Identity and times of a file. The change time cannot be set, so equal stamps mean equal bytes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Stamp:
        """Return the stamp of an opened file."""
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class OpenedFiles:
    """The opened files of a model folder. They are closed with the last reference.

    Args:
        folder: Path of the folder.

    Attributes:
        name: The path as it was given, for messages.

    Raises:
        ModelNotFound: The folder does not exist or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._path, self._directory = _open_directory(folder)
        self._descriptors: dict[str, int] = {}
        self._stamps: dict[str, Stamp] = {}
        weakref.finalize(self, _close, self._directory, self._descriptors)
        used = hold(self._directory)
        if used is not None:
            weakref.finalize(self, os.close, used)

    @property
    def stamps(self) -> Mapping[str, Stamp]:
        """The stamps of all opened files, by name."""
        return dict(self._stamps)

    def names(self) -> frozenset[str]:
        """Return the names of all that lies in the folder. Raises ModelNotFound."""
        try:
            return frozenset(entry.name for entry in os.scandir(self._directory))
        except OSError as error:
            raise ModelNotFound(f"cannot list the model folder '{self.name}': {error.strerror}") from error

    def open(self, name: str) -> Stamp:
        """Open a file of the folder. Raises DamagedModel."""
        try:
            descriptor = open_regular(name, _limit(name), folder=self._directory)
        except FileNotFoundError:
            raise DamagedModel(f"'{self.name}' lacks {name}: export or copy it again") from None
        except OSError as error:
            raise DamagedModel(f"cannot read {name} in '{self.name}': {error.strerror}") from error
        self._descriptors[name] = descriptor
        self._stamps[name] = Stamp.of(descriptor)
        return self._stamps[name]

    def changed(self) -> list[str]:
        """Return the names of opened files whose stamps have changed."""
        return [name for name, stamp in self._stamps.items() if Stamp.of(self._descriptors[name]) != stamp]

    def opened_path(self, name: str) -> Path:
        """Return a path of an opened file, which stays valid when the file is moved or removed.

        Without /proc it is the path of the file.
        """
        opened = Path(f"/proc/self/fd/{self._descriptors[name]}")
        return opened if opened.exists() else self._path / name

    def named_path(self, name: str) -> Path | None:
        """Return a path with the file's own name; None if the folder no longer has the file under this name."""
        opened = Path(f"/proc/self/fd/{self._directory}")
        path = (opened if opened.exists() else self._path) / name
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(self._descriptors[name])):
                return path
        return None

    def read(self, name: str) -> bytes:
        """Read an opened file. Raises DamagedModel."""
        try:
            return read_descriptor(self._descriptors[name], _limit(name))
        except OSError as error:
            raise DamagedModel(f"cannot read {name} in '{self.name}': {error.strerror}") from error

    def read_text(self, name: str) -> str:
        """Read an opened UTF-8 file. Raises DamagedModel."""
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedModel(f"{name} in '{self.name}' is not UTF-8 text: export or copy it again") from error

    def hash(self, name: str) -> str:
        """Return the SHA-256 of an opened file in hex. Raises DamagedModel."""
        descriptor, digest, position = self._descriptors[name], hashlib.sha256(), 0
        try:
            while piece := os.pread(descriptor, HASH_BYTES, position):
                digest.update(piece)
                position += len(piece)
        except OSError as error:
            raise DamagedModel(f"cannot read {name} in '{self.name}': {error.strerror}") from error
        return digest.hexdigest()


def _open_directory(folder: Path) -> tuple[Path, int]:
    """Return the folder's absolute path and descriptor. Raises ModelNotFound."""
    try:
        return folder.absolute(), os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_file():
            raise ModelNotFound(f"'{folder}' is a file; a model is a folder that 'vlrun export' made") from None
        raise ModelNotFound(f"no model folder at '{folder}': 'vlrun export' makes one from a checkpoint") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelNotFound(f"cannot open the model folder '{folder}': {reason}") from error


def _limit(name: str) -> int:
    return MAX_BYTES.get(name) or MAX_BYTES.get(Path(name).suffix) or MAX_OTHER_BYTES


def _close(directory: int, descriptors: Mapping[str, int]) -> None:
    for descriptor in (directory, *descriptors.values()):
        with contextlib.suppress(OSError):
            os.close(descriptor)
