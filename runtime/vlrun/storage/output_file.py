"""Files that a user names for output: checked before the work, written as a whole, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from vlrun.errors import OutputError


def check_writable(name: str) -> None:
    """Raise OutputError if a file of this name could not be written. It may exist if it is a regular file."""
    target = resolve_links(name)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # raises for invalid names, for which the checks below return False
        is_folder, has_parent = target.is_dir(), target.parent.is_dir()
        writable = os.access(target.parent, os.W_OK | os.X_OK)
        is_special = target.exists() and not target.is_file()
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {reason(error)}") from error
    if is_folder:
        raise OutputError(f"cannot write '{name}': it is a folder")
    if is_special:  # a device, a pipe or a socket
        raise OutputError(f"cannot write '{name}': it is not a regular file")
    if not has_parent:
        raise OutputError(f"cannot write '{name}': there is no folder '{target.parent}'")
    if not writable:
        raise OutputError(f"cannot write '{name}': '{target.parent}' is not writable")


def write_atomically(target: Path, content: bytes) -> None:
    """Write to the target's folder, with the permissions of a new file, then rename. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=".vlrun-", dir=target.parent) as folder:
        part = Path(folder) / target.name
        part.write_bytes(content)
        part.replace(target)


def resolve_links(name: str) -> Path:
    """Return the target of a symbolic link, so that the link is kept."""
    with contextlib.suppress(ValueError):
        return Path(os.path.realpath(name))
    return Path(name)


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be written, without its name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class NewFile:
    """A new file that is written as a whole, again and again. What others have written is never replaced.

    An empty file may exist, as ``mktemp`` makes them; it keeps its permissions.

    Args:
        name: The file.

    Raises:
        OutputError: It exists, or it could not be written.
    """

    def __init__(self, name: str | os.PathLike[str]) -> None:
        self._name = os.fspath(name)
        check_writable(self._name)
        self._target = resolve_links(self._name)
        self._written: os.stat_result | None = None
        self._check_replaceable()

    def write(self, content: bytes) -> None:
        """Write the content in place of what was written before. Raises OutputError; the file is then unchanged."""
        try:
            with tempfile.TemporaryDirectory(prefix=".vlrun-", dir=self._target.parent) as folder:
                part = Path(folder) / self._target.name
                part.write_bytes(content)
                if present := self._check_replaceable():
                    part.chmod(stat.S_IMODE(present.st_mode))
                    part.replace(self._target)
                else:
                    self._create(part)
            self._written = self._target.stat()
        except OSError as error:
            raise OutputError(f"cannot write '{self._name}': {reason(error)}") from error

    def _check_replaceable(self) -> os.stat_result | None:
        """Return the state of the present file, None if there is none. Raises OutputError for one with content."""
        try:
            present = self._target.stat()
        except FileNotFoundError:
            return None
        own = self._written is not None and _same(present, self._written)
        if not own and (present.st_size or not stat.S_ISREG(present.st_mode)):
            raise OutputError(f"'{self._name}' exists, and vlrun does not replace it: choose another name")
        return present

    def _create(self, part: Path) -> None:
        """Give a complete file its name, unless another process has made a file of that name meanwhile."""
        try:
            self._target.hardlink_to(part)
        except FileExistsError:
            raise OutputError(f"'{self._name}' exists, and vlrun does not replace it: choose another name") from None
        except OSError:  # a file system without links
            self._check_replaceable()
            part.replace(self._target)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )
