"""Writes a model folder atomically: to a hidden sibling that is flushed to disk and renamed.

An error, a full disk or Ctrl+C leaves nothing behind. The next export removes what a kill or a power cut left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlrun import manifest
from vlrun.errors import OutputError


@contextmanager
def atomic_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` if the block succeeds, and is removed otherwise.

    Raises:
        OutputError: ``out`` cannot be written, or exists and is not a model folder or ``force`` is false.
    """
    out = Path(os.path.realpath(out))
    with contextlib.suppress(OSError):  # an unreadable folder is reported by the next line
        _recover(out)
    _check_target(out, force)
    parts = _sibling(out, "part")
    try:
        parts.mkdir()
        with _locked(parts):
            yield parts
            sync(parts)
            _publish(parts, out, force)
    except OSError as error:
        raise OutputError(f"cannot write '{out}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def sync(folder: Path) -> None:
    """Flush every file of a folder, and then the folder itself, to disk."""
    for path in [*folder.iterdir(), folder]:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_target(out: Path, force: bool) -> None:
    if not out.parent.is_dir():
        raise OutputError(f"cannot write '{out}': there is no folder '{out.parent}'")
    if not out.exists():
        return
    if not force:
        raise OutputError(f"'{out}' already exists; choose another folder, or replace it with --force")
    if not (out / manifest.MANIFEST).is_file():
        raise OutputError(
            f"'{out}' exists and is not a model folder, so --force does not replace it; remove it yourself"
        )


def _publish(parts: Path, out: Path, force: bool) -> None:
    """Rename ``parts`` to ``out``. An old ``out`` is moved aside first, and restored on failure or else removed."""
    _check_target(out, force)
    old = _sibling(out, "old")
    with _locked(out) if out.exists() else contextlib.nullcontext():
        try:
            if out.exists():
                out.rename(old)
            parts.rename(out)
        except BaseException:  # Ctrl+C between the two renames too
            if old.exists():
                old.rename(out)
            raise
    _fsync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _recover(out: Path) -> None:
    """Clean up after killed exports: remove incomplete siblings, and restore a model that was moved aside."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}\.(part|old)")
    beside = out.parent.iterdir() if out.parent.is_dir() else ()
    for left in [path for path in beside if ours.fullmatch(path.name)]:
        with contextlib.suppress(OSError), _locked(left):
            if left.suffix == ".old" and not out.exists() and (left / manifest.MANIFEST).is_file():
                left.rename(out)
            else:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder until the block or the process ends. Raises BlockingIOError if another process holds the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sibling(out: Path, suffix: str) -> Path:
    """Return an unused hidden path beside ``out``, on the same file system."""
    return out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.{suffix}")
