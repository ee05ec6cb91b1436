"""Copies models between the store and other folders, such as those of a USB stick, and checks every file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from vlrun.errors import DamagedModel, OptionError, OutputError
from vlrun.manifest import MANIFEST, FileEntry
from vlrun.models.folder_facts import open_ready
from vlrun.models.store.names import check_name, name_for
from vlrun.models.store.source import SOURCE, Source, read_source, write_source
from vlrun.models.store.store import ModelStore
from vlrun.storage.regular_files import open_regular

PIECE_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 40
SPARE_BYTES = 64 << 20
"""Disk space that a copy leaves for others."""
Report = Callable[[int], object]
"""Is called with the number of bytes that were copied."""


def add_model(store: ModelStore, folder: Path, name: str | None, report: Report) -> Path:
    """Copy a folder that vlrun can load into the store, and return the model's folder there.

    Raises:
        ModelError: The folder cannot be loaded, or a file is not the one that was written there.
        OptionError: The name is taken.
        OutputError: The store cannot be written.
    """
    open_ready(folder)
    source = read_source(folder)
    name = check_name(name or name_for(os.path.realpath(folder)))
    files = expected_files(folder)
    with store.locked(name):
        taken = store.find(name)
        if taken is not None:
            raise OptionError(
                f"there is a model '{taken.name}' already: give --name, or first 'vlrun models rm {taken.name}'"
            )
        made = store.partial(name) / "made"
        shutil.rmtree(made, ignore_errors=True)
        try:
            copied = _copy_files(folder, made, files, report)
            origin = source or Source(os.path.realpath(folder))
            write_source(made, msgspec.structs.replace(origin, files=copied))
        except BaseException as error:
            store.forget(name)
            if isinstance(error, OSError):
                raise OutputError(f"cannot write to '{made.parent}': {error.strerror}") from error
            raise
        return store.publish(made, name)


def copy_model(folder: Path, parent: Path, report: Report) -> Path:
    """Copy a model of the store into ``parent`` under its name, read the copy back, and return its folder.

    Raises:
        DamagedModel: A file of the model is not the one that was pulled or added.
        OutputError: ``parent`` cannot be written, or has something of that name.
    """
    target = parent / folder.name
    if not parent.is_dir():
        raise OutputError(f"cannot write '{target}': there is no folder '{parent}'")
    if os.path.lexists(target):
        raise OutputError(f"'{target}' exists already: remove it first")
    part = parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        _copy_files(folder, part, expected_files(folder), report)
        if (source := read_source(folder)) is not None:
            write_source(part, source)
            _flush(part / SOURCE)
        part.rename(target)
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def verify_model(folder: Path, report: Report) -> int:
    """Read every file of a model and return the number of files. Raises DamagedModel."""
    files = expected_files(folder)
    for name, entry in files.items():
        if entry is not None:
            _check(folder, name, entry, _hash(folder, name, report))
    return len(files)


def expected_files(folder: Path) -> dict[str, FileEntry | None]:
    """Return the files of a model folder with size and SHA-256, as far as these are recorded. Raises ModelError."""
    source = read_source(folder)
    if source is not None and source.files:
        for name in source.files:
            if Path(name).name != name or name in ("..", SOURCE) or "\0" in name:
                raise DamagedModel(f"the {SOURCE} of '{folder}' names a file outside of the folder: {name!r}")
        return dict(source.files)
    opened = open_ready(folder)
    return {**({MANIFEST: None} if opened.has_manifest else {}), **opened.manifest.files}


def _copy_files(
    folder: Path, target: Path, files: Mapping[str, FileEntry | None], report: Report
) -> dict[str, FileEntry]:
    """Copy files into a new folder, and read the copies back. Raises OSError, DamagedModel and OutputError."""
    target.mkdir()
    needed = sum(_resolve(folder, name).stat().st_size for name in files)
    free = shutil.disk_usage(target).free
    if needed + SPARE_BYTES > free:
        raise OutputError(
            f"not enough space: the model has {needed / 1e9:.2f} GB, '{target.parent}' {free / 1e9:.2f} GB"
        )
    copied = {}
    for name, expected in files.items():
        found = _hash(folder, name, report, target / name)
        _check(folder, name, expected, found)
        if _hash(target, name, lambda _: None) != found:
            raise OutputError(f"what was written to '{target.parent}' reads differently: its disk is not reliable")
        copied[name] = found
    return copied


def _hash(folder: Path, name: str, report: Report, copy: Path | None = None) -> FileEntry:
    """Return size and SHA-256 of a file, and write a copy to disk. Raises DamagedModel, or OSError for the copy."""
    try:
        descriptor = open_regular(_resolve(folder, name), MAX_FILE_BYTES, follow=False)
    except OSError as error:
        raise DamagedModel(f"cannot read {name} in '{folder}': {error.strerror}") from error
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "rb") as file, open(copy or os.devnull, "wb") as target:  # noqa: PTH123 - a device
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
            size += len(piece)
            report(len(piece))
        target.flush()
        if copy is not None:
            os.fsync(target.fileno())
            with contextlib.suppress(OSError):  # what is read back shall come from the disk
                os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return FileEntry(size, digest.hexdigest())


def _check(folder: Path, name: str, expected: FileEntry | None, found: FileEntry) -> None:
    if expected is not None and expected != found:
        raise DamagedModel(f"{name} in '{folder}' is not the file that was pulled or exported: pull or copy it again")


def _resolve(folder: Path, name: str) -> Path:
    """Return the path of a file without links, which lies in the folder or in the hub's cache. Raises DamagedModel."""
    root, path = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / name))
    inside = [root, *([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])]
    if not any(path.is_relative_to(one) for one in inside):
        raise DamagedModel(f"{name} in '{folder}' is a link that leaves the folder: copy the file itself there")
    if not path.exists():
        raise DamagedModel(f"'{folder}' lacks {name}: pull or copy it again")
    return path


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
