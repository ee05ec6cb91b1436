"""Validation of sampling parameters."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.types.sampling import SamplingParams


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": float("nan")},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 2.0},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": -2.5},
        {"seed": -1},
        {"seed": 2**70},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        SamplingParams(**wrong)  # type: ignore[arg-type]
