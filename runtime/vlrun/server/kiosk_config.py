"""The configuration of the kiosk page: a TOML file of the operator. The default, ``kiosk.toml``, explains each key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from vlrun.errors import MediaError, OptionError
from vlrun.media.image import ImageLimits, image_size
from vlrun.storage.text_files import read_text
from vlrun.tasks.definition import Task, TaskArguments, check_arguments, find_task

DEFAULT = Path(__file__).with_name("kiosk.toml")
MAX_FILE_BYTES = 256 * 1024
MAX_LOGO_BYTES = 2**20
MAX_LOGO_PIXELS = 4_000_000
MAX_QUESTIONS = 24
"""More do not fit on a screen."""
LOGO_TYPES: Mapping[str, tuple[bytes, str]] = {
    ".svg": (b"image/svg+xml", ""),
    ".png": (b"image/png", "PNG"),
    ".jpg": (b"image/jpeg", "JPEG"),
    ".jpeg": (b"image/jpeg", "JPEG"),
    ".webp": (b"image/webp", "WEBP"),
}
"""Media type, and Pillow's name of the format, by the ending of the name."""

Line: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A text in one or both languages."""

    en: Line | None = None
    zh: Line | None = None

    def __post_init__(self) -> None:
        if self.en is None and self.zh is None:
            raise ValueError("a text needs en or zh")


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A button."""

    label: Line | Texts
    question: Line | Texts | None = None
    task: str | None = None
    items: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


class KioskConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the file."""

    title: Line | Texts
    idle_seconds: Annotated[int, Meta(ge=5, le=3600)]
    language: Literal["en", "zh", "auto"]
    theme: Literal["light", "dark", "auto"]
    free_text: bool
    questions: Annotated[tuple[Question, ...], Meta(max_length=MAX_QUESTIONS)]
    logo: Line | None = None


@dataclass(frozen=True)
class Kiosk:
    """What the kiosk page gets: ``config`` as JSON, and its logo."""

    config: bytes
    logo: bytes | None = None
    logo_type: bytes = b""


def read_kiosk(path: str | os.PathLike[str] | None, tasks: Mapping[str, Task]) -> Kiosk:
    """Read the configuration, None for the default. ``tasks``: those that it may name.

    Raises OptionError, which says what is wrong.
    """
    defaults = tomllib.loads(DEFAULT.read_text(encoding="utf-8"))
    name = str(path or DEFAULT.name)
    given = {"questions": _known(defaults["questions"], tasks)} if path is None else _tables(path)
    try:
        config = msgspec.convert({**defaults, **given}, KioskConfig)
        for number, question in enumerate(config.questions, 1):
            _check(question, f"question {number}", tasks)
        logo = None if config.logo is None else _read_logo(Path(path or DEFAULT).parent / config.logo)
    except (msgspec.ValidationError, ValueError, OptionError) as error:
        raise OptionError(f"'{name}' is not a kiosk configuration: {' '.join(str(error).split())}") from None
    shown = msgspec.to_builtins(config) | {"logo": "/kiosk/logo" if logo else None}
    return Kiosk(msgspec.json.encode(shown), *(logo or ()))


def _tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, MAX_FILE_BYTES))
    except OSError as error:
        raise OptionError(f"cannot read the kiosk configuration '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise OptionError(f"'{path}' is not a TOML file: {error}") from None


def _known(questions: Sequence[Mapping[str, object]], tasks: Mapping[str, Task]) -> list[Mapping[str, object]]:
    """The questions whose task is still there and needs no names: a file of tasks may replace built-in ones."""
    needy = {name for name, task in tasks.items() if "required" in (task.items, task.fields)}
    return [each for each in questions if each.get("task") is None or each["task"] in tasks.keys() - needy]


def _check(question: Question, name: str, tasks: Mapping[str, Task]) -> None:
    """Raise OptionError for a task that is not there, or that does not take these items or fields."""
    if question.task is None:
        if question.items or question.fields:
            raise OptionError(f"{name} has items or fields, but no task")
        return
    try:
        check_arguments(find_task(question.task, tasks), TaskArguments(question.items, question.fields))
    except OptionError as error:
        raise OptionError(f"{name}: {error.message}") from None


def _read_logo(path: Path) -> tuple[bytes, bytes]:
    """The logo and its media type. Raises OptionError."""
    kind, form = LOGO_TYPES.get(path.suffix.lower(), (b"", ""))
    if not kind:
        raise OptionError(f"the logo '{path}' must be an SVG, PNG, JPEG or WebP file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a path"
        raise OptionError(f"cannot read the logo '{path}': {reason}") from None
    if len(content) > MAX_LOGO_BYTES:
        raise OptionError(f"the logo '{path}' has more than {MAX_LOGO_BYTES // 2**20} MiB, the limit")
    if not form:
        if b"<svg" not in content:
            raise OptionError(f"the logo '{path}' is not an SVG file")
        return content, kind
    try:
        image_size(content, ImageLimits((form,), MAX_LOGO_BYTES, MAX_LOGO_PIXELS), f"the logo '{path}'")
    except MediaError as error:
        raise OptionError(error.message) from None
    return content, kind
