"""The options of a request: output length, sampling, visual tokens, schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

from vlrun.errors import OptionError
from vlrun.manifest import GenerationDefaults
from vlrun.types.sampling import SamplingParams

T = TypeVar("T")

MAX_TOKENS = 1024
MAX_IMAGE_TOKENS = 1280
"""Visual tokens an image, the upper end of what Qwen advises (256 to 1280); a phone photo alone could take 16384."""
RANGES = {"max_tokens": 2**20, "max_image_tokens": 16384, "min_image_tokens": 16384, "auto_image_tokens": 16384}
"""The most of options that are counts of tokens; the least is 1."""
WHOLE_NUMBERS = (*RANGES, "top_k", "seed", "logprobs")
MAX_LOGPROBS = 20

Detail: TypeAlias = Literal["low", "auto", "high"]

PENALTIES = ("repetition", "presence", "frequency")

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256


@dataclass(frozen=True)
class Options:
    """How to answer. What is None follows the model's own defaults (its manifest); ``temperature`` 0 is greedy.

    ``max_tokens`` bounds the answer (1,024). ``detail``: visual tokens of each image, 256 (low), 2,560 (high), or up
    to ``auto_image_tokens``, fewer where this box is known to be slow (auto); ``max_image_tokens`` bounds them by a
    number instead, and images of less than ``min_image_tokens`` are enlarged. ``repetition_guard`` ends an answer
    that goes round in a circle; ``prompt_lookup`` tries several tokens at once where the text suggests them, which
    changes the speed and not the answer. ``schema``: the answer is JSON that validates against this JSON Schema (a
    mapping or its text), or makes a value of this dataclass, TypedDict or Pydantic model. ``heatmap``: the answer tells
    where each of its tokens looked. ``logprobs``: it also tells how likely each token was, beside so many others; with
    ``progress``, how far it is before its first token.

    Raises OptionError for a value out of its range.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    detail: Detail = "auto"
    max_image_tokens: int | None = None
    min_image_tokens: int | None = None
    auto_image_tokens: int = MAX_IMAGE_TOKENS
    repetition_guard: bool = True
    prompt_lookup: bool = True
    schema: object = None
    heatmap: bool = False
    logprobs: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        for name in WHOLE_NUMBERS:
            if not isinstance(getattr(self, name), int | None) or isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be a whole number")
        for name in ("temperature", "top_p", "min_p", *(f"{kind}_penalty" for kind in PENALTIES)):
            if not isinstance(getattr(self, name), int | float | None) or isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be a number")
        for name, most in RANGES.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise OptionError(f"{name} must lie between 1 and {most}, not {value}")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise OptionError(f"logprobs must lie between 0 and {MAX_LOGPROBS}, not {self.logprobs}")
        if self.detail not in get_args(Detail):
            raise OptionError(f"detail must be one of {', '.join(get_args(Detail))}, not {self.detail}")
        self._check_stops()
        if self.stop and self.schema is not None:
            raise OptionError("stop strings would cut the JSON of a schema: leave them out")
        self.sampling(GenerationDefaults(do_sample=True))  # an impossible value is told at once

    def _check_stops(self) -> None:
        stops: object = self.stop  # callers without a type checker pass one string, whose letters would be stops
        if not isinstance(stops, tuple) or not all(isinstance(stop, str) for stop in stops):
            raise OptionError("stop must be a tuple of strings")
        if len(self.stop) > MAX_STOP_STRINGS or not all(1 <= len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise OptionError(
                f"at most {MAX_STOP_STRINGS} stop strings of 1 to {MAX_STOP_LENGTH} characters are possible"
            )

    def sampling(self, defaults: GenerationDefaults) -> SamplingParams:
        """The sampling of an answer, with the model's defaults where the caller gave nothing."""
        temperature = defaults.temperature if defaults.do_sample else 0.0
        return SamplingParams(
            temperature=_first(self.temperature, temperature),
            top_k=_first(self.top_k, defaults.top_k),
            top_p=_first(self.top_p, defaults.top_p),
            min_p=_first(self.min_p, defaults.min_p),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty),
            presence_penalty=_first(self.presence_penalty, defaults.presence_penalty),
            frequency_penalty=_first(self.frequency_penalty, defaults.frequency_penalty),
            seed=self.seed,
        )


def _first(given: T | None, default: T) -> T:
    return default if given is None else given
