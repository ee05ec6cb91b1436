"""Sampling, sizes and times of frames, compared with transformers' Qwen3-VL video processor over all of their range."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.frame_sampling import fit_frames, frame_window, pair_times, sample_frames
from vlrun.types.video_rules import PUBLISHED_RULES

RATES = st.one_of(st.sampled_from([23.976023976023978, 24.0, 25.0, 29.97, 30.0, 59.94, 1 / 3]), st.floats(0.2, 240))


def reference(name: str) -> Any:
    pytest.importorskip("transformers", reason="needs the workbench packages")
    # Not by name from the package, which has a stand-in where torchvision is missing.
    return getattr(importlib.import_module("transformers.models.qwen3_vl.video_processing_qwen3_vl"), name)


@pytest.mark.slow
def test_the_frames_are_those_of_transformers() -> None:
    processor = SimpleNamespace(fps=2, min_frames=4, max_frames=768)
    sample = reference("Qwen3VLVideoProcessor").sample_frames

    @given(st.integers(1, 100_000), RATES, st.one_of(st.none(), st.floats(0.01, 60)))
    @settings(max_examples=200)
    def check(total: int, fps: float, wanted: float | None) -> None:
        metadata = SimpleNamespace(total_num_frames=total, fps=fps)
        rules = PUBLISHED_RULES if wanted is None else replace(PUBLISHED_RULES, fps=wanted)
        assert sample_frames(total, fps, rules) == sample(processor, metadata, fps=wanted).tolist()

    check()


@pytest.mark.slow
def test_the_sizes_are_those_of_transformers() -> None:
    smart_resize = reference("smart_resize")

    @given(
        st.integers(2, 768),
        st.integers(32, 4000),
        st.integers(32, 4000),
        st.integers(4096, 2**26),
        st.integers(1, 4096),
    )
    @settings(max_examples=200)
    def check(frames: int, width: int, height: int, most: int, least: int) -> None:
        rules = replace(PUBLISHED_RULES, max_pixels=most, min_pixels=least)
        expected = smart_resize(frames, height, width, 2, 32, least, most)
        assert fit_frames(frames, width, height, 32, rules)[::-1] == expected

    check()


@pytest.mark.slow
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40).map(sorted), RATES)
@settings(max_examples=200)
def test_the_times_are_those_of_transformers(indices: list[int], fps: float) -> None:
    pytest.importorskip("transformers", reason="needs the workbench packages")
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    expected = Qwen3VLProcessor._calculate_timestamps(SimpleNamespace(), list(indices), fps, 2)
    assert pair_times([index / fps for index in indices]) == expected


def test_a_part_has_only_its_own_frames() -> None:
    """79.5 seconds at 10 frames a second."""
    assert frame_window(795, 10.0, None, None, "it") == (0, 794)
    assert frame_window(795, 10.0, 10.0, 12.5, "it") == (100, 125)
    assert frame_window(795, 10.0, 79.4, 500.0, "it") == (794, 794)
    assert frame_window(795, 10.0, 1.01, 1.02, "it") == (11, 11)
    assert sample_frames(795, 10.0, PUBLISHED_RULES, (100, 125)) == [100, 106, 112, 119, 125]
    with pytest.raises(MediaNotFound, match=r"it ends after 79\.5 s, before the start at 80 s"):
        frame_window(795, 10.0, 80.0, None, "it")


def test_frames_that_cannot_be_shown_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="31 x 64 pixels is too small"):
        fit_frames(4, 31, 64, 32, PUBLISHED_RULES)
    with pytest.raises(MediaTooLarge, match="too narrow"):
        fit_frames(4, 32, 32 * 201, 32, PUBLISHED_RULES)
