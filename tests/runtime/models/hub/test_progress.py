"""The line that tells how a pull goes on."""

from __future__ import annotations

import time

import pytest

from vlrun.models.hub.progress import PullProgress


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def test_the_rate_is_that_of_the_last_seconds(clock: Clock) -> None:
    progress = PullProgress("m")
    assert progress.describe() == "asking the hub for m"
    progress.begin(4_000_000_000, 1_000_000_000)
    assert progress.describe() == "pulling m: 25 %, 1.00 GB of 4.00 GB"
    for _ in range(100):
        clock.now += 1
        progress.add(10_000_000)
    assert progress.describe() == "pulling m: 50 %, 2.00 GB of 4.00 GB, 10.0 MB/s, 3 min left"
    for _ in range(20):
        clock.now += 1
        progress.add(50_000_000)
    assert progress.describe() == "pulling m: 75 %, 3.00 GB of 4.00 GB, 50.0 MB/s, 20 s left"


def test_a_stalled_download_has_no_rate(clock: Clock) -> None:
    progress = PullProgress("m")
    progress.begin(1000, 0)
    clock.now += 60
    assert progress.describe() == "pulling m: 0 %, 0.0 MB of 0.0 MB"


def test_lost_bytes_are_not_counted(clock: Clock) -> None:
    progress = PullProgress("m")
    progress.begin(2_000_000, 0)
    progress.add(2_000_000)
    progress.add(-2_000_000)
    assert progress.describe().startswith("pulling m: 0 %")
