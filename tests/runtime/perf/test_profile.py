"""Speed profiles, and the image detail derived from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlrun.perf.profile import SpeedProfile, auto_image_tokens, load_profile, update_profile
from vlrun.types.answer import Answer, Timings, Usage


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def answer(vision: float, cached: int = 0, queue: float = 0.0) -> Answer:
    usage = Usage(prompt_tokens=784, image_tokens=768, cached_tokens=cached, completion_tokens=41, forward_passes=22)
    return Answer("x", "stop", usage, Timings(3, 0.1, queue, vision, 2.0, 6, 0.05, 8))


def test_the_shortest_times_are_stored_per_model_and_device(cache: Path) -> None:
    """Guards against one slow measurement that is kept forever."""
    for seconds in (5.0, 4.0, 9.0):
        update_profile("model", "CPU", SpeedProfile.from_answer(answer(seconds), {768: seconds}))
    assert load_profile("model", "CPU").vision == {768: 4.0}
    assert load_profile("model", "GPU") == load_profile("other", "CPU") == SpeedProfile()
    (file,) = (cache / "vlrun" / "speed").iterdir()
    file.write_bytes(b"{")
    assert load_profile("model", "CPU") == SpeedProfile()


def test_only_computed_work_is_measured() -> None:
    """Queueing does not count, nor tokens from prompt lookup; prefetched images count with their own time."""
    assert SpeedProfile.from_answer(answer(0.01), {768: 4.0, 4: 0.1}) == SpeedProfile({768: 4.0}, 2.0 / 784, 0.1, 3)
    assert SpeedProfile.from_answer(answer(0.01, queue=3.0), {}) == SpeedProfile(decode=0.1, load=3)
    assert SpeedProfile.from_answer(answer(0.01, cached=768), {}).prefill is None


def test_slow_machines_get_fewer_visual_tokens() -> None:
    assert auto_image_tokens(SpeedProfile()) == 2560
    assert auto_image_tokens(SpeedProfile({768: 1.0}, prefill=0.0003)) == 2560
    assert auto_image_tokens(SpeedProfile({768: 4.0}, prefill=0.003)) == 1280
    assert auto_image_tokens(SpeedProfile({768: 16.0}, prefill=0.01)) == 512
    assert auto_image_tokens(SpeedProfile({768: 400.0}, prefill=0.1)) == 256


def test_other_image_sizes_are_estimated() -> None:
    """Attention grows quadratically, the rest linearly."""
    known = SpeedProfile({768: 4.0})
    assert known.vision_seconds(768) == 4.0
    assert known.vision_seconds(1536) == pytest.approx(12.0)
    assert known.vision_seconds(384) == pytest.approx(1.5)
    assert SpeedProfile().vision_seconds(768) is None


def test_a_read_only_cache_is_ignored(cache: Path) -> None:
    (cache / "vlrun").write_text("a file where a folder should be")
    update_profile("model", "CPU", SpeedProfile(load=1.0))
    assert load_profile("model", "CPU") == SpeedProfile()
