"""Options that commands share, grouped into values: a command receives ``options`` and ``loading`` whole.

Knows click and names; checks of ranges are the engine's own, so that Python and command line say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vlrun.cli.option_groups import grouped
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.backends.openvino.hints import Hints
    from vlrun.tasks.request import TaskRequest
    from vlrun.types.cache_config import CacheConfig
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

R = TypeVar("R")

MIB = 2**20
MOST_SCHEMA_BYTES = 1 << 20

_SAMPLING: Mapping[str, Mapping[str, Any]] = {
    "max_tokens": {"type": int, "help": "Longest answer, in tokens. [default: 1024]"},
    "temperature": {"type": float, "help": "0 always takes the likeliest token. [default: the model's]"},
    "top_k": {"type": int, "help": "Draw among the K likeliest tokens; 0 is off. [default: the model's]"},
    "top_p": {"type": float, "help": "Draw among the likeliest that sum to P. [default: the model's]"},
    "min_p": {"type": float, "help": "Drop tokens below P times the likeliest. [default: the model's]"},
    "repetition_penalty": {"type": float, "help": "Scale tokens already seen. [default: the model's]"},
    "presence_penalty": {"type": float, "help": "Lower tokens already answered. [default: the model's]"},
    "frequency_penalty": {"type": float, "help": "The same, for each time. [default: the model's]"},
    "seed": {"type": int, "help": "Makes drawn answers repeatable."},
    "stop": {"multiple": True, "metavar": "TEXT", "help": "End the answer before TEXT; may be repeated."},
    "detail": {"type": click.Choice(["low", "auto", "high"]), "help": "Visual tokens an image. [default: auto]"},
    "max_image_tokens": {"type": int, "help": "The same as a number. [default: by --detail]"},
    "schema": {"metavar": "FILE|JSON", "help": "Answer in JSON that validates against this JSON Schema."},
    "repetition_guard": {
        "is_flag": True,
        "default": None,
        "help": "End an answer that goes round. [default: yes]",
    },
    "prompt_lookup": {"is_flag": True, "default": None, "help": "Guess ahead where the text repeats. [default: yes]"},
}

_KV_DISK = "What images became, kept on disk for the next question; 0 keeps nothing. [default: 2048]"
_DEFAULT_MODEL = "Model folder. [default: the tiny embedded one]"
_PRECISION = click.Choice(["f32", "f16", "bf16"])
_MODEL: Mapping[str, Mapping[str, Any]] = {
    "model": {"type": click.Path(path_type=Path), "metavar": "DIR", "help": _DEFAULT_MODEL},
    "context": {"type": click.IntRange(1), "help": "Tokens for prompt and answer together. [default: all it can]"},
    "kv_memory": {"type": click.IntRange(1), "metavar": "MIB", "help": "KV cache. [default: a fourth of the memory]"},
    "kv_disk": {"type": click.IntRange(0), "metavar": "MIB", "default": 2048, "help": _KV_DISK},
}
_HINTS: Mapping[str, Mapping[str, Any]] = {
    "device": {"default": "CPU", "show_default": True, "help": "CPU, GPU, or auto: a GPU where one is."},
    "threads": {"type": click.IntRange(1, 1024), "help": "CPU threads. [default: all cores]"},
    "decoder_precision": {"type": _PRECISION, "help": "Inference precision. [default: f32]"},
    "vision_precision": {"type": _PRECISION, "help": "Inference precision. [default: the device's]"},
    "kv_precision": {"type": click.Choice(["u8", "f16", "bf16", "f32"]), "help": "KV cache. [default: u8]"},
    "group_size": {"type": click.IntRange(0), "help": "Dynamic quantization; 0 is off. [default: 128]"},
}


_ASKING: Mapping[str, Mapping[str, Any]] = {
    "task": {"metavar": "NAME", "help": "Ask as a task does; `vlrun tasks` lists them."},
    "tasks": {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "Tasks of your own, as TOML."},
    "items": {"metavar": "A,B", "help": "What the task is to count or locate."},
    "fields": {"metavar": "A,B", "help": "What the task is to fill in."},
    "tiles": {"metavar": "CxR", "help": "Ask of each of C x R parts of the image, and merge."},
    "votes": {"type": int, "help": "Draw so many answers; the most frequent wins. [default: 1]"},
    "steps": {"is_flag": True, "help": "Reason first, then answer."},
}


def sampling(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options of an answer to a command, which receives them as ``options``."""

    def made(given: Mapping[str, Any]) -> Options:
        from vlrun.types.options import Options

        schema = given.get("schema")
        return Options(**{**given, "schema": None if schema is None else schema_text(schema)})

    return grouped(command, "options", _SAMPLING, made)


def schema_text(given: str) -> str:
    """A JSON Schema as text: what was given, if it is JSON, or the content of that file. Raises OptionError."""
    if given.lstrip()[:1] in ("{", "") or given.strip() in ("true", "false"):
        return given
    try:
        with Path(given).open("rb") as file:
            raw = file.read(MOST_SCHEMA_BYTES + 1)
        if len(raw) > MOST_SCHEMA_BYTES:
            raise OptionError(f"the schema '{given}' has more than {MOST_SCHEMA_BYTES:,} bytes, the limit")
        return raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise OptionError(f"cannot read the schema '{given}': {reason}") from None


@dataclass(frozen=True)
class TaskOptions:
    """How a command is to ask; the question comes to it."""

    task: str | None = None
    tasks: Path | None = None
    items: str | None = None
    fields: str | None = None
    tiles: str | None = None
    votes: int = 1
    steps: bool = False

    def inquiry(self, question: str | None) -> TaskRequest:
        """What is asked. Raises OptionError."""
        from vlrun.media.region import parse_tiles
        from vlrun.tasks.definition import TaskArguments, find, load_tasks, split_names
        from vlrun.tasks.request import TaskRequest

        tasks = load_tasks(self.tasks) if self.tasks is not None else None
        names = TaskArguments(*(split_names(given) if given is not None else () for given in (self.items, self.fields)))
        return TaskRequest(
            question,
            find(self.task, tasks) if self.task is not None else None,
            names,
            parse_tiles(self.tiles) if self.tiles is not None else None,
            self.votes,
            self.steps,
        )


def asking(command: Callable[..., R]) -> Callable[..., R]:
    """Add tasks and ways of asking to a command, which receives them as ``asking``."""
    return grouped(command, "asking", _ASKING, lambda given: TaskOptions(**given))


@dataclass(frozen=True)
class ModelOptions:
    """Which model a command is to load, and how. ``model`` None is the embedded one."""

    model: Path | None
    room: CacheConfig
    hints: Hints

    def load(self) -> VLM:
        """Load it, in the background. Raises as ``vlrun.load`` does."""
        from vlrun.vlm import load

        return load(self.model, hints=self.hints, cache=self.room, wait=False)


def loading(command: Callable[..., R]) -> Callable[..., R]:
    """Add model, device and hints to a command, which receives them as ``loading``."""

    def made(given: Mapping[str, Any]) -> ModelOptions:
        from vlrun.backends.openvino.hints import Hints
        from vlrun.types.cache_config import CacheConfig

        hints = {name: given[name] for name in _HINTS if name in given}
        memory = given["kv_memory"] * MIB if "kv_memory" in given else None
        room = CacheConfig(given.get("context"), memory, given["kv_disk"] * MIB)
        return ModelOptions(given.get("model"), room, Hints(**hints))

    return grouped(command, "loading", {**_MODEL, **_HINTS}, made)
