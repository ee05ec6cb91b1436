"""The speed of a model on this machine: what one answer measures, and estimates for other image sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from vlrun.vision.cost import relative_cost

if TYPE_CHECKING:
    from vlrun.types.answer import Answer

MIN_TOKENS = 32
"""Measurements of shorter prompts and smaller images are ignored."""
MIN_PASSES = 8
PREFILL_CHUNK = 512
"""Prompt tokens per pass (``engine.scheduler.SchedulerConfig``)."""
MAX_QUEUE_SECONDS = 0.05
"""A request that waited longer probably shared the machine with others."""


class SpeedProfile(msgspec.Struct, frozen=True):
    """Measured seconds, or None.

    Attributes:
        vision: Encoding an image, by its visual tokens.
        prefill: Per prompt token.
        decode: Per pass of the decoder.
        load: Loading the model.
    """

    vision: Mapping[int, float] = {}
    prefill: float | None = None
    decode: float | None = None
    load: float | None = None

    @classmethod
    def from_answer(cls, answer: Answer, vision_seconds: Mapping[int, float]) -> SpeedProfile:
        """Return the times of one answer.

        Prefill is per token that was not cached; decode is per pass, which can produce several tokens.

        Args:
            answer: The answer.
            vision_seconds: Seconds to encode images, by visual tokens.
        """
        usage, times = answer.usage, answer.timings
        computed = usage.prompt_tokens - usage.cached_tokens
        passes = usage.forward_passes - -(-computed // PREFILL_CHUNK)
        has_decoded = times.tpot is not None and passes >= MIN_PASSES
        has_prefilled = computed >= MIN_TOKENS and times.queue < MAX_QUEUE_SECONDS
        return cls(
            vision={tokens: seconds for tokens, seconds in vision_seconds.items() if tokens >= MIN_TOKENS},
            prefill=times.prefill / computed if has_prefilled else None,
            decode=(times.tpot or 0) * (usage.completion_tokens - 1) / passes if has_decoded else None,
            load=times.load,
        )

    def vision_seconds(self, tokens: int) -> float | None:
        """Estimate the time for an image of ``tokens`` visual tokens from the fastest measurement.

        Every image size counts, so that a fast measurement at one size corrects a slow one at another.
        """
        costs = (seconds / relative_cost(measured) for measured, seconds in self.vision.items())
        fastest = min(costs, default=None)
        return None if fastest is None else fastest * relative_cost(tokens)

    def image_seconds(self, tokens: int) -> float | None:
        """Estimate the time until an image of ``tokens`` visual tokens is encoded and in the KV cache."""
        vision = self.vision_seconds(tokens)
        return None if vision is None else vision + tokens * (self.prefill or 0)


def fastest(profiles: Iterable[SpeedProfile]) -> SpeedProfile:
    """Return the shortest time in each field, because other load only makes a machine slower."""
    known = list(profiles)
    sizes = {tokens for profile in known for tokens in profile.vision}
    vision = {tokens: min(profile.vision[tokens] for profile in known if tokens in profile.vision) for tokens in sizes}
    times = ([getattr(profile, name) for profile in known] for name in ("prefill", "decode", "load"))
    return SpeedProfile(vision, *(min((t for t in values if t is not None), default=None) for values in times))
