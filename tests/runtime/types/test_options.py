"""Validation of options."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.types.options import Options


@pytest.mark.parametrize("wrong", [-1, 21, True, 1.5])
def test_invalid_logprob_counts_are_refused(wrong: object) -> None:
    with pytest.raises(OptionError, match="logprobs must"):
        Options(logprobs=wrong)  # type: ignore[arg-type]
