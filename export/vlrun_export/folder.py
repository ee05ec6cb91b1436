"""A model folder that is whole or not there.

Everything is written to a hidden sibling, flushed to the disk, and renamed at the end; an error, a full disk or
Ctrl+C leaves nothing behind, and what a kill or a power cut left behind goes with the next try. Knows directories and
names; does not know what the files mean, except that a folder that is to be replaced must look like a model.
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
def whole_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` when the block ends well, and vanishes when it does not.

    Raises OutputError if ``out`` exists (with ``force``: if it is no model folder), or if it cannot be written.
    """
    out = Path(os.path.realpath(out))
    with contextlib.suppress(OSError):  # a folder that cannot be read: the next line says so
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
    """Flush every file of a folder, and then the folder itself, to the disk."""
    for path in [*folder.iterdir(), folder]:
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
        raise OutputError(f"'{out}' exists already: choose another folder, or replace it with --force")
    if not (out / manifest.MANIFEST).is_file():
        raise OutputError(f"'{out}' exists and is no model folder, so --force does not replace it: remove it yourself")


def _publish(parts: Path, out: Path, force: bool) -> None:
    """Rename ``parts`` to ``out``; an old ``out`` is moved aside first, put back if that fails, and removed at the
    end.
    """
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
    descriptor = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    shutil.rmtree(old, ignore_errors=True)


def _recover(out: Path) -> None:
    """Clean up after exports to ``out`` that were killed: half-written siblings go, an old model that had just been
    moved aside comes back.
    """
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
    """Hold a lock on a folder that ends with the process at the latest. Raises BlockingIOError if another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sibling(out: Path, suffix: str) -> Path:
    """A hidden name beside ``out``, on the same file system, that nobody else uses."""
    return out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.{suffix}")
