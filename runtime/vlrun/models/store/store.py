"""The folder of the store: names, publishing and removal by renaming, and locks.

A model is visible only if it is complete: it is made in a hidden folder of the store, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import ModelError, ModelInUse, ModelNotFound, OutputError
from vlrun.models.store.in_use import is_used
from vlrun.models.store.location import store_folder
from vlrun.models.store.names import check_name, is_name, near
from vlrun.storage.exchange import exchange

PARTIAL = ".partial"
"""Folder of unfinished models, by name. A later pull goes on with them."""
LOCKS = ".locks"
REMOVED = ".removed"
"""Folder of models that lost their name and are being deleted."""
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Unfinished:
    """A model that was not completed: its name and the bytes that are there."""

    name: str
    nbytes: int


class ModelStore:
    """The models in one folder, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, given: Path | None = None) -> ModelStore:
        """Return the store that an option, ``VLRUN_MODELS`` or the platform names. Raises ModelNotFound."""
        return cls(store_folder(given))

    def names(self) -> list[str]:
        """Return the names of all models, sorted. Raises ModelNotFound if the store cannot be read."""
        try:
            with os.scandir(self.folder) as entries:
                found = [entry.name for entry in entries if is_name(entry.name) and entry.is_dir()]
            return sorted(found, key=str.lower)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"cannot read the model store '{self.folder}': {_reason(error)}") from error

    def find(self, name: str) -> Path | None:
        """Return the folder of a model, whose name may be in another case; None if there is none."""
        if not is_name(name):
            return None
        names = {known.lower(): known for known in self.names()}
        return self.folder / names[name.lower()] if name.lower() in names else None

    def get(self, name: str) -> Path:
        """Return the folder of a model. Raises ModelNotFound, which says what the user may have meant."""
        folder = self.find(name)
        if folder is None:
            raise ModelNotFound(f"there is no model '{name}': {suggestion(name, self.names())}")
        return folder

    def partial(self, name: str) -> Path:
        """Return the hidden folder in which a model is made. Raises OutputError."""
        folder = self.folder / PARTIAL / name.lower()
        try:
            for path in (self.folder, self.folder / PARTIAL, folder):
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot write to the model store '{self.folder}': {_reason(error)}") from error
        return folder

    def unfinished(self) -> list[Unfinished]:
        """Return the models that were not completed, with the bytes that are there."""
        found: list[Path] = []
        with contextlib.suppress(OSError):
            found = sorted((self.folder / PARTIAL).iterdir())
        return [Unfinished(folder.name, _size(folder)) for folder in found]

    @contextmanager
    def locked(self, name: str, waiting: Callable[[], object] | None = None) -> Iterator[None]:
        """Lock a name against other processes that change it.

        Args:
            name: The name of a model, existing or not.
            waiting: Is called once if another process holds the lock; then this one waits. Without it, it fails.

        Raises:
            ModelInUse: Another process holds the lock, and ``waiting`` is None.
            OutputError: The store cannot be written.
        """
        path = self.folder / LOCKS / check_name(name).lower()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot write to the model store '{self.folder}': {_reason(error)}") from error
        try:
            while not _try_lock(descriptor):
                if waiting is None:
                    raise ModelInUse(f"another vlrun is changing the model '{name}': try again later")
                waiting()
                while not _try_lock(descriptor):
                    time.sleep(POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def publish(self, made: Path, name: str) -> Path:
        """Give a complete folder its name; a former model of that name is replaced in one step. Raises OutputError.

        Args:
            made: A folder within ``partial(name)``.
            name: The name, which must be locked.
        """
        target = self.find(name) or self.folder / name
        try:
            _flush(made)
            if not exchange(made, target):
                if target.exists():  # a kill leaves no model of this name: this file system cannot do better
                    self._discard(target)
                made.rename(target)
            _fsync(self.folder)
        except OSError as error:
            raise OutputError(f"cannot write '{target}': {_reason(error)}") from error
        self.forget(name)
        self._delete_discarded()
        return target

    def remove(self, name: str, *, force: bool = False) -> str:
        """Remove a model, or what is there of an unfinished one. Return its name.

        Raises:
            ModelNotFound: There is none.
            ModelInUse: A process has loaded it, and ``force`` is false; or another one is changing it.
            OutputError: It cannot be removed.
        """
        folder = self.find(name)
        if folder is None and name.lower() not in [one.name for one in self.unfinished()]:
            self.get(name)
        with self.locked(name):
            if folder is not None and not force and is_used(folder):
                raise ModelInUse(f"'{folder.name}' is loaded by a running vlrun: stop it first, or give --force")
            try:
                if folder is not None:
                    self._discard(folder)
            except OSError as error:
                raise OutputError(f"cannot remove '{folder}': {_reason(error)}") from error
            self.forget(name)
        self._delete_discarded()
        return name if folder is None else folder.name

    def forget(self, name: str) -> None:
        """Remove what is there of an unfinished model. Its name must be locked."""
        shutil.rmtree(self.folder / PARTIAL / name.lower(), ignore_errors=True)

    def _discard(self, folder: Path) -> None:
        """Take a model's name away. It stays usable for processes that have loaded it."""
        removed = self.folder / REMOVED
        removed.mkdir(exist_ok=True)
        folder.rename(removed / f"{folder.name}.{uuid.uuid4().hex}")

    def _delete_discarded(self) -> None:
        """Delete what lost its name, also through processes that ended meanwhile."""
        shutil.rmtree(self.folder / REMOVED, ignore_errors=True)


def suggestion(name: str, names: list[str]) -> str:
    """Return what a user may do about an unknown name, as the rest of a sentence."""
    likely = near(name, names)
    meant = f"did you mean {' or '.join(repr(one) for one in likely)}? " if likely else ""
    return f"{meant}'vlrun models' lists the models, 'vlrun pull' downloads one"


def resolve(model: str) -> Path:
    """Return the folder of a model that is given by name or by path.

    A text with a slash is a path. Any other is the name of a model in the store if there is one, otherwise a path.

    Raises:
        ModelNotFound: There is neither, or the store cannot be used.
    """
    path = Path(model)
    if not is_name(model):
        return path
    try:
        store = ModelStore.open()
        names = store.names()
        found = store.find(model)
    except ModelError:
        if not path.exists():
            raise
        return path
    if found is None and not os.path.lexists(path):
        from vlrun.models.hub.reference import aliases

        if model.lower() in aliases():
            raise ModelNotFound(f"there is no model and no folder '{model}': 'vlrun pull {model.lower()}' downloads it")
        raise ModelNotFound(f"there is no model and no folder '{model}': {suggestion(model, names)}")
    return found or path


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder that another process may be changing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutputError(f"the model store lies on a file system without locks: {error.strerror}") from error
    return True


def _flush(folder: Path) -> None:
    """Flush every file of a folder, and then the folder itself, to disk. Raises OSError."""
    for path in [*folder.iterdir(), folder]:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
