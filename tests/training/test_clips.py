"""Drawn clips: their frames and times are those of Qwen3-VL's video processor, and show what their items do."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("torch", reason="needs the workbench packages")

from tests.training.scenes import clip
from training.clips import CHANGES, SOURCES, clip_size, sample_timing
from training.rendering import Box

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


def test_the_processor_of_a_checkpoint_samples_and_resizes_alike(
    model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Asks transformers' own video processor, with the configuration that training writes."""
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, smart_resize
    from transformers.video_utils import VideoMetadata

    from training.checkpoint import save_checkpoint

    save_checkpoint(model, tokenizer, tmp_path / "checkpoint")
    processor = Qwen3VLVideoProcessor.from_pretrained(tmp_path / "checkpoint")
    for frames, fps in ((4, 30), (45, 30), (73, 25), (150, 30), (1234, 8)):
        indices = processor.sample_frames(VideoMetadata(total_num_frames=frames, fps=fps))
        timing = sample_timing(frames, fps)
        assert timing.seconds[: timing.shown] == pytest.approx(indices / fps)
        limits = processor.size["shortest_edge"], processor.size["longest_edge"]
        for width, height in SOURCES:
            expected = smart_resize(timing.shown, height, width, min_pixels=limits[0], max_pixels=limits[1])
            assert clip_size((width, height), timing.shown) == expected[::-1]


def test_frames_show_the_changes_of_the_items() -> None:
    """Each change happens to at most one item, at its frame and not before."""
    seen = set()
    for drawn in (clip(seed) for seed in range(40)):
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
    for drawn in (clip(seed) for seed in range(40)):
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
