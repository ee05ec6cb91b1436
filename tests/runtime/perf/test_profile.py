"""What one answer measures, and estimates for other image sizes."""

from __future__ import annotations

import pytest

from vlrun.perf.profile import SpeedProfile, fastest
from vlrun.types.answer import Answer, Timings, Usage


def answer(vision: float, cached: int = 0, queue: float = 0.0) -> Answer:
    usage = Usage(prompt_tokens=784, image_tokens=768, cached_tokens=cached, completion_tokens=41, forward_passes=22)
    return Answer("x", "stop", usage, Timings(3, 0.1, queue, vision, 2.0, 6, 0.05, 8))


def test_only_computed_work_is_measured() -> None:
    """Queueing does not count, nor tokens from prompt lookup; prefetched images count with their own time."""
    assert SpeedProfile.from_answer(answer(0.01), {768: 4.0, 4: 0.1}) == SpeedProfile({768: 4.0}, 2.0 / 784, 0.1, 3)
    assert SpeedProfile.from_answer(answer(0.01, queue=3.0), {}) == SpeedProfile(decode=0.1, load=3)
    assert SpeedProfile.from_answer(answer(0.01, cached=768), {}).prefill is None


def test_other_image_sizes_are_estimated() -> None:
    """Attention grows quadratically, the rest linearly."""
    known = SpeedProfile({768: 4.0}, prefill=0.01)
    assert known.vision_seconds(768) == 4.0
    assert known.vision_seconds(1536) == pytest.approx(12.0)
    assert known.vision_seconds(384) == pytest.approx(1.5)
    assert known.image_seconds(768) == pytest.approx(4.0 + 7.68)
    assert SpeedProfile().vision_seconds(768) is SpeedProfile().image_seconds(768) is None


def test_a_fast_measurement_at_one_size_corrects_a_slow_one_at_another() -> None:
    """Guards against a slow 1,024-token image that no later, smaller image ever corrected."""
    assert SpeedProfile({1024: 90.0, 256: 1.0}).vision_seconds(1024) == SpeedProfile({256: 1.0}).vision_seconds(1024)


def test_the_shortest_time_of_each_kind_counts() -> None:
    one, other = SpeedProfile({768: 4.0, 256: 2.0}, 0.01, None, 3.0), SpeedProfile({768: 5.0}, 0.02, 0.1, 2.0)
    assert fastest([one, other]) == fastest([other, one]) == SpeedProfile({768: 4.0, 256: 2.0}, 0.01, 0.1, 2.0)
    assert fastest([]) == SpeedProfile()
