"""Clips: pairs of frames, their times and hashes."""

from __future__ import annotations

import numpy as np
import pytest

from vlrun.errors import DamagedMedia, OptionError
from vlrun.media.clip import Clip, FramePair, make_clip, make_pair
from vlrun.media.image import make_image


def frame(level: int, size: tuple[int, int] = (64, 32)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def test_frames_become_pairs_with_their_mean_time() -> None:
    clip = make_clip([(index / 2, frame(index)) for index in range(4)], (640, 480), ("a note",), "Window 2")
    assert clip.seconds == (0.25, 1.25)
    assert [pair.frames[:, 0, 0, 0].tolist() for pair in clip.pairs] == [[0, 1], [2, 3]]
    assert (clip.frames, clip.size, clip.shown, clip.label, clip.notes) == (
        4,
        (640, 480),
        (64, 32),
        "Window 2",
        ("a note",),
    )
    assert clip.pixels == 4 * 64 * 32


@pytest.mark.parametrize("count", [1, 3, 5])
def test_an_odd_last_frame_is_paired_with_itself(count: int) -> None:
    clip = make_clip([(float(index), frame(index)) for index in range(count)], (64, 32))
    assert clip.frames == count
    assert len(clip.pairs) == (count + 1) // 2
    assert clip.seconds[-1] == count - 1
    assert (clip.pairs[-1].frames[0] == clip.pairs[-1].frames[1]).all()


def test_a_pair_is_identified_by_its_pixels_alone() -> None:
    """Not by its time: the same pair in another window is not encoded again; nor is it the still image."""
    pair = make_pair(frame(1), frame(2), 3.0)
    assert pair.sha256 == make_pair(frame(1), frame(2), 4.0).sha256
    others = [make_pair(frame(2), frame(1), 3.0), make_pair(frame(1), frame(1), 3.0)]
    others.append(make_pair(frame(1, (32, 64)), frame(2, (32, 64)), 3.0))
    hashes = {pair.sha256, *(other.sha256 for other in others), make_image(frame(1)).sha256}
    assert len(hashes) == 5


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(DamagedMedia, match="no frame that can be decoded"):
        make_clip([], (64, 32))
    pair = make_pair(frame(1), frame(2), 0.0)
    with pytest.raises(OptionError, match="pairs must be at least one pair of frames, all of the same size"):
        Clip((pair, make_pair(frame(1, (32, 32)), frame(2, (32, 32)), 0.0)), (64, 32), 4)
    with pytest.raises(OptionError, match="frames must be an array"):
        FramePair(frame(1), 0.0, "")
    with pytest.raises(OptionError, match=r"not \[3, 32, 64, 3\]"):
        FramePair(np.stack([frame(1)] * 3), 0.0, "")
