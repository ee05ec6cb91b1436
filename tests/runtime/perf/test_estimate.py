"""Estimated memory and time of a request."""

from __future__ import annotations

import time

import pytest

from tests.paths import EXAMPLES
from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.errors import ContextLengthExceeded
from vlrun.media.image import open_image
from vlrun.models.model_folder import ModelFolder
from vlrun.perf.estimate import ANSWER_TOKENS, CostEstimate, estimate_cost, kv_bytes
from vlrun.perf.history import SpeedHistory
from vlrun.perf.profile import SpeedProfile
from vlrun.types.options import Options
from vlrun.types.turn import Turn

TURNS = [Turn("user", (open_image(EXAMPLES / "shelf.png"), "How many bottles are there?"))]


def estimate(speed: SpeedProfile, context: int | None = None, kv_precision: str = "u8") -> CostEstimate:
    history = SpeedHistory().with_measured(speed, time.time())
    return estimate_cost(ModelFolder(FOLDER), TURNS, Options(), history, context, kv_precision)


def test_times_are_unknown_without_measurements() -> None:
    unknown = estimate(SpeedProfile())
    assert (unknown.load, unknown.ttft, unknown.answer) == (None, None, None)


def test_times_are_computed_from_the_profile() -> None:
    """With one measured image size, the time to the first token is vision plus prefill."""
    (image,) = estimate(SpeedProfile()).images
    known = estimate(SpeedProfile({image.tokens: 2.0}, prefill=0.01, decode=0.05, load=1.0))
    assert known.load == 1.0
    assert known.ttft == pytest.approx(2.0 + 0.01 * known.prompt_tokens)
    assert known.answer == pytest.approx(0.05 * ANSWER_TOKENS)


def test_kv_memory_covers_prompt_and_answer() -> None:
    text = manifests.read(FOLDER).text
    small, large = estimate(SpeedProfile()), estimate(SpeedProfile(), kv_precision="f32")
    assert small.kv_memory == (small.prompt_tokens + ANSWER_TOKENS) * kv_bytes(text, "u8")
    assert (
        large.kv_memory == (small.prompt_tokens + ANSWER_TOKENS) * text.layers * text.kv_heads * 2 * text.head_dim * 4
    )
    assert large.memory - small.memory == large.kv_memory - small.kv_memory


def test_a_prompt_that_exceeds_the_context_is_refused() -> None:
    with pytest.raises(ContextLengthExceeded):
        estimate(SpeedProfile(), context=20)
