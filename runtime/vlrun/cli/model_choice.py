"""The model of a command: ``--model``, ``VLRUN_MODEL``, the configuration file, or the embedded model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import ModelError, OptionError

VARIABLE = "VLRUN_MODEL"
OPTION = "--model"
EMBEDDED = "embedded"
MAX_CONFIG_BYTES = 1 << 16
"""Limit on the configuration file: a file with one name or path in it has a hundred bytes."""


@dataclass(frozen=True)
class ModelChoice:
    """A model folder, None for the embedded model, and what chose it: an option, a variable or a file."""

    folder: Path | None
    source: str

    @property
    def path(self) -> Path:
        """The model folder, also that of the embedded model."""
        from vlrun.embedded import FOLDER

        return self.folder or FOLDER

    @property
    def name(self) -> str:
        """A name for messages before the model's own is known."""
        return self.path.absolute().name if self.folder else "the embedded demo model"

    def describe(self, name: str) -> str:
        """Return the model's own name with what chose it."""
        return f"{name} (embedded)" if self.folder is None else f"{name} ({self.source}: {self.folder})"

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Let an error of the model name the variable or file that chose it: the user may have forgotten it."""
        try:
            yield
        except ModelError as error:
            if self.source in (OPTION, EMBEDDED):
                raise
            raise type(error)(f"{self.source} chooses a model that cannot be used: {error}") from error


def choose_model(model: str | Path | None = None) -> ModelChoice:
    """Return the model that an option, ``VLRUN_MODEL`` or the configuration file names, or else the embedded one.

    Args:
        model: The name or path of an option; a ``Path`` is never taken for a name.

    Raises:
        OptionError: The configuration file cannot be used. It is read only if nothing else names a model.
        ModelNotFound: There is no model of that name.
    """
    if isinstance(model, Path):
        return ModelChoice(model, OPTION)
    if model is not None:
        return _named(model, OPTION)
    if variable := os.environ.get(VARIABLE):
        return _named(variable, VARIABLE)
    path = config_file()
    configured = None if path is None else configured_model(path)
    return ModelChoice(None, EMBEDDED) if configured is None else _named(configured, str(path))


def _named(model: str, source: str) -> ModelChoice:
    from vlrun.models.store.store import resolve

    with ModelChoice(None, source).named_in_errors():
        return ModelChoice(resolve(model), source)


def choose_given_model(model: str | Path | None = None) -> ModelChoice:
    """Return the model as ``choose_model`` does. Raises OptionError instead of choosing the embedded one."""
    choice = choose_model(model)
    if choice.folder is None:
        raise OptionError(f"no model: give {OPTION} NAME, or set {VARIABLE}")
    return choice


def config_file() -> Path | None:
    """Return the path of the user's configuration file, whether it exists or not; None without a home directory."""
    import platformdirs

    with contextlib.suppress(RuntimeError):
        return platformdirs.user_config_path("vlrun") / "config.toml"
    return None


def configured_model(path: Path) -> str | None:
    """Return the name or path in the configuration file, if it exists and has one. Raises OptionError."""
    from vlrun.storage.regular_files import read_regular

    try:
        text = read_regular(path, MAX_CONFIG_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OptionError(f"cannot read the configuration file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise OptionError(f"the configuration file '{path}' is not UTF-8 text") from None
    return _parse(text, path)


def _parse(text: str, path: Path) -> str | None:
    import tomllib

    from vlrun.models.store.names import is_name

    try:
        settings = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"the configuration file '{path}' is not valid TOML: {error}") from None
    unknown = settings.keys() - {"model"}
    if unknown:
        raise OptionError(
            f"the configuration file '{path}' has the unknown key '{min(unknown)}': only 'model' is known"
        )
    if "model" not in settings:
        return None
    model = settings["model"]
    if not isinstance(model, str) or not model.strip() or "\0" in model:
        raise OptionError(f"'model' in the configuration file '{path}' must be the path of a model folder, or a name")
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises if there is no home
    if is_name(model):
        return model
    if not folder.is_absolute():
        raise OptionError(
            f"the path 'model' in the configuration file '{path}' must begin with / or ~/, not be '{model}'"
        )
    return str(folder)
