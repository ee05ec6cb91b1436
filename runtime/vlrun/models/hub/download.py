"""Downloads files into a folder: resumed where they stopped, never longer than listed, and checked at the end."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from vlrun.errors import HubError, OutputError
from vlrun.models.hub.client import Hub, HubBusy
from vlrun.models.hub.listing import RemoteFile, Repository
from vlrun.models.hub.progress import PullProgress

T = TypeVar("T")

MAX_ATTEMPTS = 5
"""Attempts without a single new byte; one that makes progress begins the count again."""
MAX_DAMAGED = 2
"""Complete downloads with wrong bytes of one file: the second is no accident."""
MAX_WAIT_SECONDS = 60.0
"""What the hub may ask to wait; if it asks for more, the user decides when to try again."""
SPARE_BYTES = 64 << 20
"""Disk space that a download leaves for others."""
HASH_BYTES = 1 << 20


class Wait(Protocol):
    """Waits for some seconds."""

    def __call__(self, seconds: float, /) -> object:
        """Wait."""


class Downloader:
    """Downloads the files of one repository into a folder that no other process uses.

    Args:
        hub: The hub.
        repository: The repository, at the commit that is pinned.
        folder: The folder.
        progress: Counts the bytes.
        wait: Waits before another attempt.
    """

    def __init__(
        self, hub: Hub, repository: Repository, folder: Path, progress: PullProgress, wait: Wait = time.sleep
    ) -> None:
        self._hub, self._repository, self._folder = hub, repository, folder
        self._progress, self._wait = progress, wait

    def fetch_all(self, files: Sequence[RemoteFile], also_needed: int = 0) -> dict[str, str]:
        """Download files that are not there yet and return the SHA-256 of all by name.

        What else lies in the folder is removed: it belongs to another revision.

        Args:
            files: The files.
            also_needed: Bytes on disk that are needed besides.

        Raises:
            HubError: A file cannot be downloaded. What arrived is kept.
            OutputError: It cannot be written, or there is not enough space.
        """
        wanted = {file.name for file in files}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink()
        total, present = sum(file.size for file in files), sum(self._present(file) for file in files)
        self.check_space(total - present + also_needed)
        self._progress.begin(total, present)
        return {file.name: self.fetch(file) for file in files}

    def check_space(self, needed: int) -> None:
        """Raise OutputError if the disk has less free space than is needed."""
        free = shutil.disk_usage(self._folder).free
        if needed and needed + SPARE_BYTES > free:
            raise OutputError(
                f"not enough space for '{self._repository.name}': it needs {needed / 1e9:.2f} GB more, and "
                f"'{self._folder}' has {free / 1e9:.2f} GB"
            )

    def fetch(self, file: RemoteFile) -> str:
        """Download a file unless it is complete, and return its SHA-256. Raises as ``fetch_all``."""
        path, damaged = self._folder / file.name, 0
        while True:
            if self._present(file) < file.size or not path.exists():
                self._fetch_rest(file, path)
            sha256 = _checked(path, file)
            if sha256 is not None:
                return sha256
            path.unlink()
            self._progress.add(-file.size)
            damaged += 1
            if damaged == MAX_DAMAGED:
                raise HubError(
                    f"the hub at {self._hub.endpoint} sent other bytes of {file.name} than the checksum says: "
                    "nothing of it is kept; try again later, and look for a proxy that changes downloads"
                )

    def _present(self, file: RemoteFile) -> int:
        """Return the bytes of a file that are there; a file that is too long is removed."""
        path = self._folder / file.name
        try:
            size = path.lstat().st_size
        except FileNotFoundError:
            return 0
        if size > file.size:
            path.unlink()
            return 0
        return size

    def _fetch_rest(self, file: RemoteFile, path: Path) -> None:
        """Download what is missing of a file, in several attempts."""
        attempts = 0
        while True:
            before = self._present(file)
            try:
                self._attempt(file, path, before)
                return
            except HubBusy as busy:
                attempts = 1 if self._present(file) > before else attempts + 1
                seconds = 2.0 ** (attempts - 1) if busy.retry_after is None else busy.retry_after
                if attempts == MAX_ATTEMPTS or seconds > MAX_WAIT_SECONDS:
                    raise HubError(f"{busy}; the same command goes on where it stopped") from busy
            self._wait(seconds)

    def _attempt(self, file: RemoteFile, path: Path, position: int) -> None:
        with self._hub.open(self._repository, file, position) as (beginning, pieces), _Written(path) as target:
            if beginning not in (0, position):
                raise HubBusy(f"the hub at {self._hub.endpoint} sent another part of {file.name} than asked for")
            if beginning != position:
                self._progress.add(beginning - position)
            target.cut(beginning)
            done = beginning
            for piece in pieces:
                done += len(piece)
                if done > file.size:
                    raise HubError(
                        f"the hub at {self._hub.endpoint} sends more than the {file.size:,} bytes of {file.name}"
                    )
                target.write(piece)
                self._progress.add(len(piece))
        if done < file.size:
            raise HubBusy(f"the hub at {self._hub.endpoint} cut the connection during {file.name}")


class _Written:
    """A file that is written, whose errors are never taken for those of the network."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> _Written:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = self._do(lambda: os.open(self._path, flags, 0o644))
        return self

    def __exit__(self, *_: object) -> None:
        self._do(lambda: os.close(self._descriptor))

    def cut(self, size: int) -> None:
        """Cut the file to a size and go on there."""
        self._do(lambda: os.ftruncate(self._descriptor, size))
        self._do(lambda: os.lseek(self._descriptor, size, os.SEEK_SET))

    def write(self, piece: bytes) -> None:
        """Append bytes. Raises OutputError."""
        view = memoryview(piece)
        while view:
            view = view[self._do(lambda: os.write(self._descriptor, view)) :]  # noqa: B023 - called at once

    def _do(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path.name} to '{self._path.parent}': {error.strerror}; "
                "the same command goes on where it stopped"
            ) from error


def _checked(path: Path, file: RemoteFile) -> str | None:
    """Return the SHA-256 of a downloaded file; None if it is not the file that the hub lists."""
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    size = 0
    with path.open("rb") as opened:
        while piece := opened.read(HASH_BYTES):
            size += len(piece)
            sha256.update(piece)
            if file.blob:
                blob.update(piece)
    right = blob.hexdigest() == file.blob if file.blob else sha256.hexdigest() == file.sha256
    return sha256.hexdigest() if right and size == file.size else None
