"""Drawn clips: their frames and times are those of Qwen3-VL's video processor, and show what their items do."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from training.clips import (
    CHANGES,
    MAX_CLIP_PIXELS,
    MAX_FRAMES,
    MIN_CLIP_PIXELS,
    MIN_FRAMES,
    SOURCES,
    Clip,
    clip_size,
    draw_clip,
    draw_timing,
    sample_timing,
    stamp,
)
from training.rendering import Box


def clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    timing = draw_timing(rng)
    return draw_clip(clip_size(SOURCES[seed % len(SOURCES)], timing.shown), timing, rng)


@pytest.mark.parametrize(
    ("frames", "fps"), [(4, 30), (45, 30), (52, 24), (73, 25), (150, 30), (1234, 8), (2001, 29.97)]
)
def test_times_equal_those_of_transformers(frames: int, fps: float) -> None:
    pytest.importorskip("torch", reason="needs the workbench packages")
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
    from transformers.video_utils import VideoMetadata

    processor = Qwen3VLVideoProcessor(min_frames=MIN_FRAMES, max_frames=MAX_FRAMES)
    indices = processor.sample_frames(VideoMetadata(total_num_frames=frames, fps=fps))
    timing = sample_timing(frames, fps)
    assert timing.shown == len(indices)
    assert timing.seconds[: timing.shown] == pytest.approx(indices / fps)
    expected = Qwen3VLProcessor._calculate_timestamps(None, indices.tolist(), fps)
    assert [stamp(seconds) for seconds in timing.pairs] == [f"{seconds:.1f}" for seconds in expected]


def test_sizes_equal_those_of_transformers() -> None:
    pytest.importorskip("torch", reason="needs the workbench packages")
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    for width, height in SOURCES:
        for frames in range(MIN_FRAMES, MAX_FRAMES + 1, 2):
            expected = smart_resize(frames, height, width, min_pixels=MIN_CLIP_PIXELS, max_pixels=MAX_CLIP_PIXELS)
            assert clip_size((width, height), frames) == expected[::-1]


def test_frames_show_the_changes_of_the_items() -> None:
    """Each change happens to at most one item, at its frame and not before."""
    seen = set()
    for drawn in (clip(seed) for seed in range(60)):
        changes = [actor.change for actor in drawn.actors if actor.change]
        assert len(set(changes)) == len(changes)
        assert len({actor.kind for actor in drawn.actors}) == len(drawn.actors)
        seen |= set(changes)
        for actor in drawn.actors:
            looks = [next((i for i in scene.items if i.kind == actor.kind), None) for scene in drawn.scenes]
            assert looks == list(actor.looks)
            changed = [number for number, (a, b) in enumerate(pairwise(looks), 1) if a != b]
            assert changed == (list(range(actor.frame, actor.frame + actor.steps)) if actor.change else [])
            assert all(number < drawn.timing.shown for number in changed)
    assert seen == set(CHANGES)


def overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def test_items_stay_inside_the_frame_and_apart() -> None:
    for drawn in (clip(seed) for seed in range(60)):
        for scene in drawn.scenes:
            boxes = [item.box for item in scene.items]
            assert all(0 <= edge <= 1 for box in boxes for edge in box)
            assert not any(overlap(a, b) for a, b in combinations(boxes, 2))


def test_frames_without_a_change_are_equal_and_others_differ() -> None:
    drawn = clip(4)
    for before, after in pairwise(drawn.scenes):
        same = before.items == after.items
        assert np.array_equal(np.asarray(before.image), np.asarray(after.image)) == same
        assert before.image.size == drawn.scenes[0].image.size
