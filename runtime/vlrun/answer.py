"""What a caller may ask for and what comes back: options, chunks, the answer with its figures.

Plain values; knows neither devices nor how an answer is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from vlrun.engine.request import FinishReason
from vlrun.engine.sampler import Sampling
from vlrun.errors import OptionError
from vlrun.manifest import GenerationDefaults

T = TypeVar("T")

MAX_TOKENS = 1024
MAX_IMAGE_TOKENS = 1280
"""Visual tokens a picture, the upper end of what Qwen advises (256 to 1280); a phone photo alone could take 16384."""

PENALTIES = ("repetition", "presence", "frequency")

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256


@dataclass(frozen=True)
class Options:
    """How to answer. What is None follows the model's own defaults (its manifest); ``temperature`` 0 is greedy.

    ``max_tokens`` bounds the answer, ``max_image_tokens`` the visual tokens of each picture. ``repetition_guard`` ends
    an answer that goes round in a circle; ``prompt_lookup`` tries several tokens at once where the text suggests them,
    which changes the speed and not the answer. Raises OptionError for a value out of its range.
    """

    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_image_tokens: int = MAX_IMAGE_TOKENS
    repetition_guard: bool = True
    prompt_lookup: bool = True

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_image_tokens", "top_k", "seed"):
            if not isinstance(getattr(self, name), int | None) or isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be a whole number")
        for name in ("temperature", "top_p", "min_p", *(f"{kind}_penalty" for kind in PENALTIES)):
            if not isinstance(getattr(self, name), int | float | None) or isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be a number")
        if not 1 <= self.max_tokens <= 2**20:
            raise OptionError(f"max_tokens must lie between 1 and {2**20}, not {self.max_tokens}")
        if not 1 <= self.max_image_tokens <= 16384:
            raise OptionError(f"max_image_tokens must lie between 1 and 16384, not {self.max_image_tokens}")
        stops: object = self.stop  # callers without a type checker pass one string, whose letters would be stops
        if not isinstance(stops, tuple) or not all(isinstance(stop, str) for stop in stops):
            raise OptionError("stop must be a tuple of strings")
        if len(self.stop) > MAX_STOP_STRINGS or not all(1 <= len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise OptionError(
                f"at most {MAX_STOP_STRINGS} stop strings of 1 to {MAX_STOP_LENGTH} characters are possible"
            )
        self.sampling(GenerationDefaults(do_sample=True))  # an impossible value is told at once

    def sampling(self, defaults: GenerationDefaults) -> Sampling:
        """The sampling of an answer, with the model's defaults where the caller gave nothing."""
        temperature = defaults.temperature if defaults.do_sample else 0.0
        return Sampling(
            temperature=_first(self.temperature, temperature),
            top_k=_first(self.top_k, defaults.top_k),
            top_p=_first(self.top_p, defaults.top_p),
            min_p=_first(self.min_p, defaults.min_p),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty),
            presence_penalty=_first(self.presence_penalty, defaults.presence_penalty),
            frequency_penalty=_first(self.frequency_penalty, defaults.frequency_penalty),
            seed=self.seed,
        )


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer. ``image_tokens`` and ``cached_tokens`` (which did not have to run again) are part of
    ``prompt_tokens``; ``passes``: how often the decoder ran for it.
    """

    prompt_tokens: int
    image_tokens: int
    cached_tokens: int
    completion_tokens: int
    passes: int


@dataclass(frozen=True)
class Timings:
    """Seconds. ``load`` belongs to the model, the rest to this answer; waiting for the caller is not counted, nor for
    the model to be loaded: what became of pictures meanwhile (``vlrun.load(wait=False)``) counts as loading.

    ``queue``: until there was room; ``vision`` and ``prefill``: each as long as it took beside other answers; ``ttft``:
    time to first token, from the question, with all of these; ``tpot``: time per further output token, None if there
    was only one.
    """

    load: float
    preprocess: float
    queue: float
    vision: float
    prefill: float
    ttft: float
    tpot: float | None
    total: float


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``notes``: what was left out or changed of the pictures on the way in, in words."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of text as it comes. The last chunk carries the whole ``answer``; its own text may be empty."""

    text: str
    answer: Answer | None = None


def _first(given: T | None, default: T) -> T:
    return default if given is None else given
