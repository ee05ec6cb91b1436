"""Frames that changed, of a fixed camera."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.media.keyframes import ChangeDetector, changed_times

Rgb = npt.NDArray[np.uint8]
MANY = 1000
SIZES = [(64, 64), (320, 240), (960, 540)]


def scene(width: int, height: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """A background of coarse structures and a fine texture."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(20, 220, (6, 8, 3)).astype(np.float32)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 8 // width
    return coarse[rows][:, columns] + random.normal(0, 4, (height, width, 3)).astype(np.float32)


def as_rgb(levels: npt.NDArray[np.floating]) -> Rgb:
    return np.clip(levels, 0, 255).astype(np.uint8)


def with_box(levels: npt.NDArray[np.float32], x: float, y: float, share: float = 0.02) -> npt.NDArray[np.float32]:
    """The scene with a square that covers a share of it, at a place given in 0..1."""
    height, width = levels.shape[:2]
    side = max(int((share * height * width) ** 0.5), 1)
    left, top = int(x * (width - side)), int(y * (height - side))
    drawn = levels.copy()
    drawn[top : top + side, left : left + side] = 255 - drawn[top : top + side, left : left + side].mean()
    return drawn


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", [0, 5, 15])
def test_noise_is_no_change(size: tuple[int, int], noise: float) -> None:
    levels, random = scene(*size), np.random.default_rng(1)
    frames = ((float(i), as_rgb(levels + random.normal(0, noise, levels.shape))) for i in range(12))
    assert changed_times(frames, MANY) == [0.0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", [0, 5, 15])
def test_an_object_that_comes_and_goes_is_a_change(size: tuple[int, int], noise: float) -> None:
    levels, random = scene(*size), np.random.default_rng(2)

    def frames() -> Iterator[tuple[float, Rgb]]:
        for i in range(15):
            shown = with_box(levels, 0.4, 0.6) if 5 <= i < 10 else levels
            yield i / 2, as_rgb(shown + random.normal(0, noise, levels.shape))

    assert changed_times(frames(), MANY) == [0.0, 2.5, 5.0]


@pytest.mark.parametrize("per_second", [0.5, -0.5])
def test_light_that_changes_slowly_is_no_change(per_second: float) -> None:
    levels = scene(320, 240) * 0.5 + 60
    ramp = np.linspace(0, 1, 320, dtype=np.float32)[None, :, None]  # one side more than the other
    frames = ((i / 2, as_rgb(levels + per_second * ramp * i / 2)) for i in range(240))
    assert changed_times(frames, MANY) == [0.0]


def test_exposure_is_no_change_but_a_lamp_is() -> None:
    levels = scene(320, 240) * 0.5 + 20
    exposed = [(0.0, as_rgb(levels)), (1.0, as_rgb(levels * 1.15)), (2.0, as_rgb(levels / 1.15))]
    assert changed_times(exposed, MANY) == [0.0]
    assert changed_times([(0.0, as_rgb(levels * 0.3)), (1.0, as_rgb(levels))], MANY) == [0.0, 1.0]


def test_another_scene_is_a_change_also_in_noise() -> None:
    random = np.random.default_rng(3)
    shown = [as_rgb(scene(320, 240, seed) + random.normal(0, 15, (240, 320, 3))) for seed in (1, 1, 2, 2, 3)]
    assert changed_times(enumerate(map(np.asarray, shown)), MANY) == [0, 2, 4]


def test_an_object_that_stays_is_one_change() -> None:
    levels = scene(320, 240)
    frames = ((i / 2, as_rgb(with_box(levels, 0.5, 0.5) if i else levels)) for i in range(120))
    assert changed_times(frames, MANY) == [0.0, 0.5]


def test_slow_light_does_not_hide_an_object_that_moves_slowly() -> None:
    levels = scene(320, 240)
    frames = [(float(i), as_rgb(with_box(levels, i / 60, 0.5))) for i in range(60)]
    assert len(changed_times(frames, MANY)) >= 10


def test_the_threshold_is_the_share_of_the_frame() -> None:
    levels = scene(640, 640)
    frames = [(0.0, as_rgb(levels)), (1.0, as_rgb(with_box(levels, 0.5, 0.5, 0.04)))]
    assert changed_times(frames, MANY, threshold=0.03) == [0.0, 1.0]
    assert changed_times(frames, MANY, threshold=0.06) == [0.0]


def test_a_frame_of_another_size_is_a_change() -> None:
    detector = ChangeDetector()
    assert detector.changed(0, np.zeros((240, 320, 3), np.uint8))
    assert not detector.changed(1, np.zeros((240, 320, 3), np.uint8))
    assert detector.changed(2, np.zeros((480, 640, 3), np.uint8))


def test_times_that_jump_back_do_no_harm() -> None:
    levels = as_rgb(scene(64, 64))
    assert changed_times([(5.0, levels), (2.0, levels), (float("1e9"), levels)], MANY) == [5.0]


@given(st.integers(1, 40), st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_too_many_changes_are_spread(limit: int, count: int) -> None:
    frames = [(float(i), np.full((16, 16, 3), 255 * (i % 2), np.uint8)) for i in range(count)]
    times = changed_times(frames, limit)
    assert len(times) == min(limit, count)
    assert times == sorted(set(times))
    assert times[0] == 0
    if limit > 1 and count > limit:
        gaps = np.diff([*times, count - 1])
        assert max(gaps) <= 4 * (count / limit)


def test_a_rare_change_survives_many_others() -> None:
    frames = [(float(i), np.full((16, 16, 3), 255 * (i % 2), np.uint8)) for i in range(100)]
    still = [(100.0 + i, np.full((16, 16, 3), 255, np.uint8)) for i in range(100)]
    frames += [*still, (200.0, np.zeros((16, 16, 3), np.uint8))]
    assert changed_times(frames, 4)[-1] == 200.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 9), (8, 4000)])
def test_frames_of_any_shape(shape: tuple[int, int]) -> None:
    black, white = (np.full((*shape, 3), level, np.uint8) for level in (0, 255))
    assert changed_times([(0, black), (1, black), (2, white)], MANY) == [0, 2]


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    def frames(count: int) -> Iterator[tuple[float, Rgb]]:
        return ((float(i), np.full((48, 64, 3), 255 * (i % 2), np.uint8)) for i in range(count))

    changed_times(frames(10), 8)
    peaks = []
    for count in (50, 250):
        tracemalloc.start()
        changed_times(frames(count), 8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10_000


@pytest.mark.slow
@pytest.mark.skipif("VLRUN_VIDEOS" not in os.environ, reason="VLRUN_VIDEOS names no folder with vtest.avi")
def test_a_real_camera() -> None:
    """People walk through the picture all the time, but for a minute not over the lawn at its lower left."""
    av = pytest.importorskip("av", reason="the extra video is not installed")
    (path,) = Path(os.environ["VLRUN_VIDEOS"]).rglob("vtest.avi")
    with av.open(path) as container:
        decoded = [frame for number, frame in enumerate(container.decode(video=0)) if number % 5 == 0]
    frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in decoded]
    assert len(changed_times(frames, MANY)) > 0.9 * len(frames)
    lawn = [(seconds, np.ascontiguousarray(rgb[340:, :110])) for seconds, rgb in frames if seconds < 65]
    assert changed_times(lawn, MANY) == [0.0]
