"""Writes a model folder atomically: to a hidden sibling that is flushed to disk and renamed.

An error, a full disk or Ctrl+C leaves nothing behind. The next export removes what a kill or a power cut left. Only an
empty folder, or one in which an export wrote every file, is ever replaced, and only those files are deleted.
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
from vlrun.errors import ModelError, OutputError
from vlrun.storage.exchange import exchange


@contextmanager
def atomic_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` if the block succeeds, and is removed otherwise.

    Raises:
        OutputError: ``out`` cannot be written, or has files and is no model folder or ``force`` is false.
    """
    out = Path(os.path.realpath(out))
    parts = _sibling(out, "part")
    try:
        with contextlib.suppress(OSError):  # an unreadable folder is reported by the next line
            _recover(out)
        _check_target(out, force)
        parts.mkdir()
        with _locked(parts):
            yield parts
            sync(parts)
            _publish(parts, out, force)
    except OSError as error:
        raise OutputError(f"cannot write '{out}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def check_apart(out: Path, checkpoint: Path) -> None:
    """Raise OutputError if one of the folders is, or contains, the other."""
    target, source = Path(os.path.realpath(out)), Path(os.path.realpath(checkpoint))
    if target == source or target in source.parents or source in target.parents:
        raise OutputError(f"'{out}' and the checkpoint '{checkpoint}' overlap: choose a folder outside the checkpoint")


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
    if not os.path.lexists(out):
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not force:
        raise OutputError(f"'{out}' already exists; choose another folder, or replace a model folder with --force")
    reason = _why_not_a_model(out)
    if reason:
        raise OutputError(
            f"'{out}' is not a model folder ({reason}), so --force does not replace it; choose another folder"
        )


def _why_not_a_model(folder: Path) -> str | None:
    """Return None if every file of the folder is one that an export wrote there; otherwise what is not."""
    try:
        files = {manifest.MANIFEST, *manifest.read(folder).files}
    except ModelError:
        return f"it has no valid {manifest.MANIFEST}"
    with os.scandir(folder) as entries:
        foreign = [e.name for e in entries if e.name not in files or not e.is_file(follow_symlinks=False)]
    return f"no export wrote its {min(foreign)}" if foreign else None


def _publish(parts: Path, out: Path, force: bool) -> None:
    """Let ``parts`` take the place of ``out``, in one step where the file system can, and remove an old ``out``."""
    _check_target(out, force)
    old = _sibling(out, "old")
    with _locked(out) if out.exists() else contextlib.nullcontext():
        if out.exists() and exchange(parts, out):
            parts.rename(old)
        else:
            _rename_both(parts, out, old)
    _fsync(out.parent)
    _remove_model(old)


def _rename_both(parts: Path, out: Path, old: Path) -> None:
    """Rename ``parts`` to ``out``. An old ``out`` is moved aside first, and restored on failure."""
    try:
        if out.exists():
            out.rename(old)
        parts.rename(out)
    except BaseException:  # Ctrl+C between the two renames too
        if old.exists():
            old.rename(out)
        raise


def _remove_model(folder: Path) -> None:
    """Delete the files that an export wrote, and the folder unless it has others by now."""
    with contextlib.suppress(ModelError, OSError):
        written = manifest.read(folder).files
        for path in [path for path in folder.iterdir() if path.name in written]:
            path.unlink()
        (folder / manifest.MANIFEST).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _recover(out: Path) -> None:
    """Clean up after killed exports: remove incomplete siblings, and restore a model that was moved aside."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}\.(part|old)")
    beside = out.parent.iterdir() if out.parent.is_dir() else ()
    for left in [path for path in beside if ours.fullmatch(path.name)]:
        with contextlib.suppress(OSError), _locked(left):
            if left.suffix == ".part":
                shutil.rmtree(left, ignore_errors=True)
            elif not os.path.lexists(out) and _why_not_a_model(left) is None:
                left.rename(out)
            else:
                _remove_model(left)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder until the block or the process ends. Raises BlockingIOError if another process holds the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sibling(out: Path, suffix: str) -> Path:
    """Return an unused hidden path beside ``out``, on the same file system."""
    return out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.{suffix}")
