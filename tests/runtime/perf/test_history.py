"""Speeds between runs: a busy moment never lowers the detail for long, and the detail never falls below its floor."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from vlrun.perf import history
from vlrun.perf.history import (
    AUTO_STEPS,
    MAX_AGE_SECONDS,
    MAX_MOMENTS,
    MIN_SLOW_MOMENTS,
    MOMENT_SECONDS,
    SpeedHistory,
    load_history,
    record,
)
from vlrun.perf.profile import SpeedProfile

QUIET = SpeedProfile({768: 1.0}, prefill=0.0003, decode=0.05, load=3.0)
HOUR = 3600.0
SIZES = (256, 300, 768, 1024, 1280, 2560)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def measured(factor: float, tokens: int = 768) -> SpeedProfile:
    """Return what an answer measures on a machine that other work makes slower by a factor."""
    seconds = QUIET.vision_seconds(tokens)
    assert seconds is not None
    return SpeedProfile({tokens: seconds * factor}, prefill=0.0003 * factor, decode=0.05 * factor, load=3.0 * factor)


def after(*factors: float, apart: float = HOUR) -> tuple[SpeedHistory, float]:
    """Return the history after measurements, and the time of the last one."""
    kept, now = SpeedHistory(), 1e9
    for factor in factors:
        now += apart
        kept = kept.with_measured(measured(factor), now)
    return kept, now


def test_one_busy_run_changes_nothing() -> None:
    """Guards against a run on a busy machine after which every image was reduced to 256 visual tokens."""
    kept, now = after(50.0)
    assert kept.auto_image_tokens(now) == AUTO_STEPS[0]
    kept, now = after(*[50.0] * 20, apart=MOMENT_SECONDS / 30)
    assert kept.auto_image_tokens(now) == AUTO_STEPS[0]
    assert len(kept.moments) == 1


def test_a_machine_that_is_always_slow_gets_fewer_visual_tokens() -> None:
    """It takes several moments to learn that, and the last step is the least."""
    for count in range(6):
        kept, now = after(*[50.0] * count)
        assert kept.auto_image_tokens(now) == (AUTO_STEPS[-1] if count >= MIN_SLOW_MOMENTS else AUTO_STEPS[0])
    kept, now = after(*[3.0] * 4)
    assert kept.auto_image_tokens(now) == 1280


@pytest.mark.parametrize("seed", range(30))
def test_any_sequence_of_busy_moments_recovers_with_one_quiet_answer(seed: int) -> None:
    """Also if the quiet answer is about an image of another size, and whatever lies between the measurements."""
    rng = random.Random(seed)
    kept, now = SpeedHistory(), 1e9
    for _ in range(rng.randint(1, 40)):
        now += rng.choice((1.0, 300.0, HOUR, 24 * HOUR, -HOUR))
        kept = kept.with_measured(measured(rng.uniform(2, 500), rng.choice(SIZES)), now)
        assert kept.auto_image_tokens(now) >= AUTO_STEPS[-1]
    now += rng.choice((1.0, HOUR, 30 * 24 * HOUR))
    kept = kept.with_measured(measured(1.0, rng.choice(SIZES)), now)
    assert kept.auto_image_tokens(now) == AUTO_STEPS[0]
    assert kept.profile(now).image_seconds(1024) == pytest.approx(QUIET.image_seconds(1024))
    assert len(kept.moments) <= MAX_MOMENTS


def test_busy_moments_are_forgotten_with_time() -> None:
    """Even if nothing is measured any more."""
    kept, now = after(*[50.0] * 8)
    assert kept.auto_image_tokens(now) == AUTO_STEPS[-1]
    later = now + MAX_AGE_SECONDS + 1
    assert kept.auto_image_tokens(later) == AUTO_STEPS[0]
    assert kept.profile(later) == SpeedProfile()


def test_a_machine_that_became_slower_is_learned() -> None:
    """Fast measurements do not stay for ever either."""
    kept, now = after(1.0, *[50.0] * MAX_MOMENTS)
    assert kept.auto_image_tokens(now) == AUTO_STEPS[-1]


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_impossible_times_are_ignored(seconds: float) -> None:
    """A clock that jumps must not make the machine infinitely fast."""
    kept = SpeedHistory().with_measured(SpeedProfile({768: seconds}, seconds, seconds, seconds), 1e9)
    assert kept == SpeedHistory()


def test_history_is_stored_per_model_and_hints(cache: Path) -> None:
    record("model", "CPU", measured(5.0))
    record("model", "CPU", measured(4.0))
    record("model", "CPU", measured(9.0))
    (moment,) = load_history("model", "CPU").moments
    assert moment.profile == measured(4.0)
    assert load_history("model", "GPU") == load_history("other", "CPU") == SpeedHistory()


@pytest.mark.parametrize(
    "content", [b"{", b'{"moments": 3}', b'{"vision": {"768": 4.0}, "load": 1.0}', b'{"x":' + b"[" * 50_000]
)
def test_a_damaged_or_older_file_is_ignored(content: bytes, cache: Path) -> None:
    record("model", "CPU", measured(5.0))
    (file,) = (cache / "vlrun" / "speed").iterdir()
    file.write_bytes(content)
    assert load_history("model", "CPU") == SpeedHistory()


def test_a_read_only_cache_is_ignored(cache: Path) -> None:
    (cache / "vlrun").write_text("a file where a folder should be")
    record("model", "CPU", measured(5.0))
    assert history.load_history("model", "CPU") == SpeedHistory()
