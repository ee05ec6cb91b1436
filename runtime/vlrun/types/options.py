"""The options of a request: output length, sampling, visual tokens, schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

from vlrun.errors import OptionError
from vlrun.manifest import GenerationDefaults
from vlrun.types.sampling import SamplingParams

T = TypeVar("T")

MAX_TOKENS = 1024
"""Default length of an answer."""
RANGES = {"max_tokens": 2**20, "max_image_tokens": 16384, "min_image_tokens": 16384, "auto_image_tokens": 16384}
"""Maxima of the options that are numbers of tokens; the minimum is 1."""
WHOLE_NUMBERS = (*RANGES, "top_k", "seed", "logprobs")
MAX_LOGPROBS = 20

Detail: TypeAlias = Literal["low", "auto", "high"]

PENALTIES = ("repetition", "presence", "frequency")

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256


@dataclass(frozen=True)
class Options:
    """The options of a request. None means the default of the model (its manifest).

    Attributes:
        max_tokens: Maximum length of the answer; None for 1,024.
        temperature: 0 is greedy.
        top_k: Sample from the k most likely tokens.
        top_p: Sample from the most likely tokens with this total probability.
        min_p: Drop tokens below this fraction of the highest probability.
        repetition_penalty: Divides the scores of tokens of prompt and answer.
        presence_penalty: Subtracted once for tokens of the answer.
        frequency_penalty: Subtracted for each occurrence of a token in the answer.
        seed: Makes sampling reproducible.
        stop: Strings that end the answer.
        detail: Visual tokens of each image: few (low), many (high), or up to ``auto_image_tokens`` and fewer on a
            machine known to be slow (auto).
        max_image_tokens: Maximum of visual tokens an image; replaces ``detail``.
        min_image_tokens: Smaller images are enlarged to this number of visual tokens.
        auto_image_tokens: Maximum of visual tokens with ``detail="auto"``.
        repetition_guard: Ends an answer that repeats itself without end.
        prompt_lookup: Verifies several tokens at once where the text repeats; changes the speed, not the answer.
        schema: The answer is JSON that validates against this JSON Schema (a mapping or its text), or becomes a value
            of this dataclass, TypedDict or Pydantic model.
        heatmap: The answer carries the attention of each token to the image.
        logprobs: The answer carries the log probability of each token and of this many alternatives.
        progress: Chunks before the first token report progress.

    Raises:
        OptionError: A value is out of its range.
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
    auto_image_tokens: int | None = None
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
        for name, maximum in RANGES.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= maximum:
                raise OptionError(f"{name} must lie between 1 and {maximum}, not {value}")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise OptionError(f"logprobs must lie between 0 and {MAX_LOGPROBS}, not {self.logprobs}")
        if self.detail not in get_args(Detail):
            raise OptionError(f"detail must be one of {', '.join(get_args(Detail))}, not {self.detail}")
        self._check_stops()
        if self.stop and self.schema is not None:
            raise OptionError("stop strings would cut the JSON of a schema: remove them")
        self.sampling(GenerationDefaults(do_sample=True))  # raises for a value out of its range

    def _check_stops(self) -> None:
        stops: object = self.stop  # without a type checker callers pass a single string
        if not isinstance(stops, tuple) or not all(isinstance(stop, str) for stop in stops):
            raise OptionError("stop must be a tuple of strings")
        if len(self.stop) > MAX_STOP_STRINGS or not all(1 <= len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise OptionError(
                f"at most {MAX_STOP_STRINGS} stop strings of 1 to {MAX_STOP_LENGTH} characters are possible"
            )

    def sampling(self, defaults: GenerationDefaults) -> SamplingParams:
        """Return the sampling parameters, with the model's defaults for None."""
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
