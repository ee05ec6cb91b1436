"""Options that commands share, grouped into values: a command receives ``options`` and ``loading`` whole.

Knows click and names; checks of ranges are the engine's own, so that Python and command line say the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vlrun.answer import Options
    from vlrun.loading import Room
    from vlrun.model.device import Hints
    from vlrun.vlm import VLM

R = TypeVar("R")

MIB = 2**20

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
    "max_image_tokens": {"type": int, "help": "Visual tokens a picture. [default: 1280]"},
    "repetition_guard": {
        "is_flag": True,
        "default": None,
        "help": "End an answer that goes round. [default: yes]",
    },
    "prompt_lookup": {"is_flag": True, "default": None, "help": "Guess ahead where the text repeats. [default: yes]"},
}

_KV_DISK = "What pictures became, kept on disk for the next question; 0 keeps nothing. [default: 2048]"
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


def sampling(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options of an answer to a command, which receives them as ``options``."""

    def made(given: Mapping[str, Any]) -> Options:
        from vlrun.answer import Options

        return Options(**given)

    return _grouped(command, "options", _SAMPLING, made)


@dataclass(frozen=True)
class Loading:
    """Which model a command is to load, and how. ``model`` None is the embedded one."""

    model: Path | None
    room: Room
    hints: Hints

    def load(self) -> VLM:
        """Load it, in the background. Raises as ``vlrun.load`` does."""
        from vlrun.vlm import load

        return load(self.model, hints=self.hints, room=self.room, wait=False)


def loading(command: Callable[..., R]) -> Callable[..., R]:
    """Add model, device and hints to a command, which receives them as ``loading``."""

    def made(given: Mapping[str, Any]) -> Loading:
        from vlrun.loading import Room
        from vlrun.model.device import Hints

        hints = {name: given[name] for name in _HINTS if name in given}
        memory = given["kv_memory"] * MIB if "kv_memory" in given else None
        room = Room(given.get("context"), memory, given["kv_disk"] * MIB)
        return Loading(given.get("model"), room, Hints(**hints))

    return _grouped(command, "loading", {**_MODEL, **_HINTS}, made)


def _grouped(
    command: Callable[..., R],
    name: str,
    members: Mapping[str, Mapping[str, Any]],
    made: Callable[[Mapping[str, Any]], object],
) -> Callable[..., R]:
    """The command with an option for each member; what is given of them arrives as one value, made when it runs."""

    @functools.wraps(command)
    def gather(**given: Any) -> R:
        values = {member: given.pop(member) for member in members}
        given[name] = made({member: value for member, value in values.items() if value is not None})
        return command(**given)

    decorated: Callable[..., R] = gather
    for member, attributes in reversed(list(members.items())):
        word = member.replace("_", "-")
        declared = f"--{word}/--no-{word}" if "is_flag" in attributes else f"--{word}"
        decorated = click.option(declared, **attributes)(decorated)
    return decorated
