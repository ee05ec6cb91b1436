"""Pulls a model: from a reference to a folder in the store, with a commit that is pinned and every file checked.

The unfinished model lies in ``ModelStore.partial``: ``files`` is what was downloaded, ``made`` a converted checkpoint.
An error or a kill leaves it there, and the next pull of the name goes on with it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import ModelError, OptionError, OutputError
from vlrun.manifest import FileEntry, describe_file
from vlrun.models.folder_facts import Content
from vlrun.models.hub.client import Hub
from vlrun.models.hub.download import Downloader, Wait
from vlrun.models.hub.listing import RemoteFile, Repository
from vlrun.models.hub.progress import PullProgress
from vlrun.models.hub.reference import Reference
from vlrun.models.hub.selection import choose_files
from vlrun.models.model_folder import ModelFolder
from vlrun.models.store.names import check_name
from vlrun.models.store.source import SOURCE, Source, read_source, write_source
from vlrun.models.store.store import ModelStore

DEFAULT_WEIGHTS = "int8"
EXPORTED_SHARE: Mapping[str, float] = {"int4": 0.6, "int8": 0.65, "fp16": 1.1}
"""Size of a converted model by its weights, as a share of the checkpoint: measured 0.35, 0.51 and 1.0 for 2B."""

Convert = Callable[[Path, Path, str], object]
"""Converts a checkpoint folder to a new model folder with weights of a precision."""


@dataclass(frozen=True)
class Pulled:
    """A pulled model.

    Attributes:
        name: Its name in the store.
        source: Where it came from.
        is_new: Whether anything was downloaded; otherwise this very model was there already.
    """

    name: str
    folder: Path
    source: Source
    is_new: bool


class Pull:
    """One pull.

    Args:
        store: The store.
        reference: The repository and revision.
        weights: The precision that a checkpoint is converted to; None if the user leaves it open.
        name: The name in the store; None for the default.
        convert: Converts a checkpoint; None if the packages for that are missing.
        cannot_convert: Says what to do about missing packages.
    """

    def __init__(
        self,
        store: ModelStore,
        reference: Reference,
        weights: str | None,
        name: str | None,
        convert: Convert | None,
        cannot_convert: str,
    ) -> None:
        self._precision = weights or DEFAULT_WEIGHTS
        self.name = check_name(name or reference.name(None if self._precision == DEFAULT_WEIGHTS else weights))
        self.progress = PullProgress(reference.given)
        self._store, self._reference, self._weights = store, reference, weights
        self._convert, self._cannot_convert = convert, cannot_convert

    def run(
        self,
        hub: Hub,
        waiting: Callable[[], object],
        converting: Callable[[], AbstractContextManager[object]] = nullcontext,
        wait: Wait = time.sleep,
    ) -> Pulled:
        """Pull the model.

        Args:
            hub: The hub.
            waiting: Is called if another process is pulling to the same name.
            converting: Its context surrounds a conversion.
            wait: Waits before another attempt of a download.

        Raises:
            HubError: The hub cannot be reached, refuses, or sends something wrong.
            OptionError: The name is taken, or the weights cannot be chosen.
            ModelError: The repository holds no model that vlrun can run.
            OutputError: The store cannot be written.
            CheckpointError: The checkpoint cannot be converted.
        """
        repository = hub.repository(self._reference.repository, self._reference.revision)
        with self._store.locked(self.name, waiting):
            present = self._present(repository)
            if present is not None:
                self._store.forget(self.name)  # what a kill right after the last step left
                return present
            try:
                return self._pull(repository, hub, converting, wait)
            except OSError as error:
                folder = self._store.folder
                raise OutputError(f"cannot write to the model store '{folder}': {error.strerror}") from error

    def _present(self, repository: Repository) -> Pulled | None:
        """Return the model if it is this very one; None if there is none, or an older one. Raises OptionError."""
        folder = self._store.find(self.name)
        if folder is None:
            return None
        source = read_source(folder)
        if source is None or source.origin != repository.name or source.weights not in ("", self._precision):
            other = f" from '{source.description}'" if source else ""
            raise OptionError(
                f"there is another model '{folder.name}'{other}: give --name, or first 'vlrun models rm {folder.name}'"
            )
        same = source.commit == repository.commit and (source.weights or self._weights is None)
        return Pulled(folder.name, folder, source, False) if same else None

    def _pull(
        self,
        repository: Repository,
        hub: Hub,
        converting: Callable[[], AbstractContextManager[object]],
        wait: Wait,
    ) -> Pulled:
        partial = self._store.partial(self.name)
        files = partial / "files"
        files.mkdir(exist_ok=True)
        downloader = Downloader(hub, repository, files, self.progress, wait)
        content, chosen = choose_files(repository, files, lambda file: _read(downloader, file))
        self._check_wishes(content)
        sizes = sum(file.size for file in chosen)
        converted = int(sizes * EXPORTED_SHARE[self._precision]) if not content.ready else 0
        hashes = downloader.fetch_all(chosen, converted)
        if content.ready:
            made, weights = files, ""
            entries = {file.name: FileEntry(file.size, hashes[file.name]) for file in chosen if file.name != SOURCE}
            self.progress.step = f"checking {self.name}"
        else:
            made, weights = partial / "made" / self.name, self._precision
            with converting():
                self._convert_to(made, files, weights)
            self.progress.step = f"hashing {self.name}"
            entries = {path.name: describe_file(path) for path in sorted(made.iterdir()) if path.name != SOURCE}
        source = Source(repository.name, repository.revision, repository.commit, repository.endpoint, weights, entries)
        write_source(made, source)
        _check_loadable(made, partial, repository.name)
        return Pulled(self.name, self._store.publish(made, self.name), source, True)

    def _check_wishes(self, content: Content) -> None:
        """Raise OptionError before the download, if the wish of the user cannot be fulfilled."""
        given = self._reference.given
        if content.ready and self._weights is not None:
            raise OptionError(f"'{given}' holds a model that is ready for use, as it is: leave out --weights")
        if not content.ready and self._convert is None:
            raise OptionError(f"'{given}' is a PyTorch checkpoint that has to be converted: {self._cannot_convert}")

    def _convert_to(self, made: Path, files: Path, weights: str) -> None:
        if self._convert is None:
            raise OptionError(self._cannot_convert)
        shutil.rmtree(made.parent, ignore_errors=True)
        made.parent.mkdir()
        self._convert(files, made, weights)


def _read(downloader: Downloader, file: RemoteFile) -> None:
    downloader.check_space(file.size)
    downloader.fetch(file)


def _check_loadable(made: Path, partial: Path, origin: str) -> None:
    """Raise ModelError if vlrun cannot load what was downloaded; then nothing of it is kept."""
    try:
        ModelFolder(made)
    except ModelError as error:
        shutil.rmtree(partial, ignore_errors=True)
        message = str(error).replace(os.fspath(made), origin)
        raise type(error)(f"what '{origin}' holds cannot be used, and is not kept: {message}") from error
