"""The options of a request: output length, sampling, visual tokens, schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, flag, number, one_of, optional, whole_number
from vlrun.types.sampling import SamplingParams

if TYPE_CHECKING:
    from vlrun.manifest import GenerationDefaults

MAX_TOKENS = 1024
"""Default length of an answer."""
THINKING_TOKENS = 4096
"""Default length of the reasoning of a Thinking model."""
MAX_THINKING_TOKENS = 2**20
RANGES = {"max_tokens": 2**20, "max_image_tokens": 16384, "min_image_tokens": 16384, "auto_image_tokens": 16384}
"""Maxima of token counts; the minimum is 1."""
WHOLE_NUMBERS = (*RANGES, "thinking_tokens", "top_k", "seed", "logprobs")
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
FLAGS = ("repetition_guard", "prompt_lookup", "heatmap", "progress")
MAX_LOGPROBS = 20

Detail: TypeAlias = Literal["low", "auto", "high"]

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256


@dataclass(frozen=True)
class Options:
    """The options of a request. None selects the model's default.

    Attributes:
        max_tokens: Maximum length of the answer and its reasoning; None for 1,024, and the reasoning in addition.
        temperature: 0 is greedy.
        top_k: Sample from the k most likely tokens.
        top_p: Sample from the most likely tokens with this total probability.
        min_p: Drop tokens below this fraction of the highest probability.
        repetition_penalty: Divides the logits of tokens of the prompt and the answer.
        presence_penalty: Subtracted once from the logits of tokens of the answer.
        frequency_penalty: Subtracted for each occurrence of a token in the answer.
        seed: Makes sampling reproducible.
        stop: Strings that end the answer.
        detail: Visual tokens per image: few (low), many (high), or up to ``auto_image_tokens``, reduced on a machine
            that was measured to be slow (auto).
        max_image_tokens: Maximum of visual tokens per image; replaces ``detail``.
        min_image_tokens: Smaller images are enlarged to this number of visual tokens.
        auto_image_tokens: Maximum of visual tokens with ``detail="auto"``.
        repetition_guard: End an answer that keeps repeating itself.
        prompt_lookup: Speculative decoding of repeated text; changes the speed, not the answer.
        schema: JSON Schema (a mapping or text) that the answer validates against, or a dataclass, TypedDict or Pydantic
            model that it becomes a value of.
        heatmap: Return the attention of each token to the image.
        logprobs: Return the log probability of each token and of this many alternatives.
        progress: Report progress before the first token.
        thinking_tokens: Maximum length of the reasoning of a Thinking model, which then answers; 0 answers at once,
            None is 4,096, or less where ``max_tokens`` or the context would leave less than a quarter for the answer.

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
    thinking_tokens: int | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            dict.fromkeys(WHOLE_NUMBERS, optional(whole_number))
            | dict.fromkeys(NUMBERS, optional(number))
            | dict.fromkeys(FLAGS, flag)
            | {"detail": one_of(get_args(Detail))},
        )
        for name, maximum in RANGES.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= maximum:
                raise OptionError(f"{name} must lie between 1 and {maximum}, not {value}")
        if self.thinking_tokens is not None and not 0 <= self.thinking_tokens <= MAX_THINKING_TOKENS:
            raise OptionError(
                f"thinking_tokens must lie between 0 and {MAX_THINKING_TOKENS}, not {self.thinking_tokens}"
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise OptionError(f"logprobs must lie between 0 and {MAX_LOGPROBS}, not {self.logprobs}")
        self._check_stops()
        if self.stop and self.schema is not None:
            raise OptionError("stop strings would cut the JSON of a schema: leave them out")
        self._sampling({})  # raises OptionError for a value out of its range

    def _check_stops(self) -> None:
        stops: object = self.stop  # untyped callers pass a single string
        if not isinstance(stops, tuple) or not all(isinstance(stop, str) for stop in stops):
            raise OptionError("stop must be a tuple of strings")
        if len(self.stop) > MAX_STOP_STRINGS or not all(1 <= len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise OptionError(f"the limit is {MAX_STOP_STRINGS} stop strings of 1 to {MAX_STOP_LENGTH} characters")

    def limits(self, thinks: bool, left: int) -> tuple[int, int]:
        """Return the maximum of tokens, and how many of them the reasoning may have.

        Args:
            thinks: Whether the model begins with its reasoning.
            left: Tokens that the context leaves.
        """
        thought = THINKING_TOKENS if self.thinking_tokens is None else self.thinking_tokens
        whole = min(self.max_tokens or MAX_TOKENS + (thought if thinks else 0), left)
        if self.thinking_tokens is None:  # leave tokens for the answer
            thought = min(thought, max(whole * 3 // 4, whole - MAX_TOKENS))
        return whole, thought

    def sampling(self, defaults: GenerationDefaults) -> SamplingParams:
        """Return the sampling parameters, with the model's defaults for None."""
        values = asdict(defaults)
        if not values.pop("do_sample"):
            values["temperature"] = 0.0
        return self._sampling(values)

    def _sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        given = {field.name: getattr(self, field.name) for field in fields(SamplingParams)}
        return SamplingParams(**{**defaults, **{name: value for name, value in given.items() if value is not None}})

    def with_defaults(self, defaults: Mapping[str, Any]) -> Options:
        """Return the options with ``defaults`` in place of None."""
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
