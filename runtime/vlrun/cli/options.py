"""Options that commands share, grouped into values: ``sampling`` and ``device`` each arrive as one object.

Knows click and names; checks of ranges are the engine's own, so that Python and command line say the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vlrun.answer import Options
    from vlrun.model.device import Hints

R = TypeVar("R")


@dataclass(frozen=True)
class SamplingOptions:
    """What was given on the command line; None where nothing was."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: tuple[str, ...]
    max_image_tokens: int | None

    def options(self) -> Options:
        """The engine's options. Raises OptionError for a value out of its range."""
        from vlrun.answer import MAX_IMAGE_TOKENS, MAX_TOKENS, Options

        return Options(
            max_tokens=MAX_TOKENS if self.max_tokens is None else self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=self.stop,
            max_image_tokens=MAX_IMAGE_TOKENS if self.max_image_tokens is None else self.max_image_tokens,
        )


@dataclass(frozen=True)
class DeviceOptions:
    """Device and hints as given on the command line; None where nothing was."""

    device: str
    threads: int | None
    decoder_precision: str | None
    vision_precision: str | None
    kv_precision: str | None
    group_size: int | None
    context: int | None

    def hints(self) -> Hints:
        """The hints, with vlrun's defaults where nothing was given."""
        from vlrun.model.device import Hints

        defaults = Hints()
        return Hints(
            device=self.device.upper(),
            threads=self.threads,
            decoder_precision=self.decoder_precision or defaults.decoder_precision,
            vision_precision=self.vision_precision or defaults.vision_precision,
            kv_precision=self.kv_precision or defaults.kv_precision,
            group_size=defaults.group_size if self.group_size is None else self.group_size,
        )


model = click.option(
    "--model", type=click.Path(path_type=Path), metavar="DIR", help="Model folder. [default: the tiny embedded one]"
)

_SAMPLING = [
    click.option("--max-tokens", type=int, help="Longest answer, in tokens. [default: 1024]"),
    click.option("--temperature", type=float, help="0 always takes the likeliest token. [default: the model's]"),
    click.option("--top-k", type=int, help="Draw among the K likeliest tokens; 0 is off. [default: the model's]"),
    click.option("--top-p", type=float, help="Draw among the likeliest that sum to P. [default: the model's]"),
    click.option("--min-p", type=float, help="Drop tokens below P times the likeliest. [default: the model's]"),
    click.option("--repetition-penalty", type=float, help="Scale tokens already seen. [default: the model's]"),
    click.option("--presence-penalty", type=float, help="Lower tokens already answered. [default: the model's]"),
    click.option("--frequency-penalty", type=float, help="The same, for each time. [default: the model's]"),
    click.option("--seed", type=int, help="Makes drawn answers repeatable."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before TEXT; may be repeated."),
    click.option("--max-image-tokens", type=int, help="Visual tokens a picture. [default: 1280]"),
]

_PRECISION = click.Choice(["f32", "f16", "bf16"])
_DEVICE = [
    click.option("--device", default="CPU", show_default=True, help="OpenVINO device: CPU or GPU."),
    click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. [default: all cores]"),
    click.option("--decoder-precision", type=_PRECISION, help="Inference precision. [default: f32]"),
    click.option("--vision-precision", type=_PRECISION, help="Inference precision. [default: the device's]"),
    click.option("--kv-precision", type=click.Choice(["u8", "f16", "bf16", "f32"]), help="KV cache. [default: u8]"),
    click.option("--context", type=click.IntRange(1), help="Tokens for prompt and answer together. [default: 32768]"),
    click.option("--group-size", type=click.IntRange(0), help="Dynamic quantization; 0 is off. [default: 128]"),
]


def sampling(command: Callable[..., R]) -> Callable[..., R]:
    """Add the sampling options to a command, which receives them as ``sampling``."""
    return _grouped(command, "sampling", SamplingOptions, _SAMPLING)


def device(command: Callable[..., R]) -> Callable[..., R]:
    """Add the device options to a command, which receives them as ``device``."""
    return _grouped(command, "device", DeviceOptions, _DEVICE)


def _grouped(
    command: Callable[..., R],
    name: str,
    value: type[SamplingOptions | DeviceOptions],
    options: Iterable[Callable[[Any], Any]],
) -> Callable[..., R]:
    members = [field.name for field in fields(value)]

    @functools.wraps(command)
    def gather(**given: Any) -> R:
        given[name] = value(**{member: given.pop(member) for member in members})
        return command(**given)

    decorated: Callable[..., R] = gather
    for option in reversed(list(options)):
        decorated = option(decorated)
    return decorated
