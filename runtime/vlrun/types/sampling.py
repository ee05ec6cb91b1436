"""Sampling parameters with their ranges."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.errors import OptionError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingParams:
    """Parameters of the sampler.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0, ``repetition_penalty`` 1 and the other penalties
    0 are off.

    Raises:
        OptionError: A value is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0, 100)
        _within("top_k", self.top_k, 0, 2**31 - 1)
        _within("top_p", self.top_p, 0, 1)
        _within("min_p", self.min_p, 0, 1)
        _within("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        if self.seed is not None:
            _within("seed", self.seed, 0, MAX_SEED)
        if self.top_p == 0:
            raise OptionError("top_p must be above 0")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise OptionError(f"{name} must lie between {low} and {high}, not {value}")
