"""Sampling and sizes of video frames.

transformers 4 saves them as video_preprocessor_config.json, transformers 5 as ``video_processor`` in
processor_config.json, which has priority there. Without either they are those of the published models.
"""

from __future__ import annotations

from vlrun.models.hf_config.files import ConfigFiles
from vlrun.models.hf_config.json_section import Section
from vlrun.models.hf_config.preprocessing import PROCESSOR
from vlrun.types.video_rules import PUBLISHED_RULES, VideoRules

VIDEO_PREPROCESSOR = "video_preprocessor_config.json"
MAX_FPS, MAX_FRAMES, MAX_PIXELS = 1000, 1 << 16, 1 << 32


def video_rules(files: ConfigFiles) -> VideoRules:
    """Return the rules of a checkpoint. Raises VlrunError for a value that is wrong."""
    section = _video_processor(files)
    if section is None:
        return PUBLISHED_RULES
    size = section.section("size") if section.has("size") else section
    low = size.integer("shortest_edge", 1, MAX_PIXELS, PUBLISHED_RULES.min_pixels)
    high = size.integer("longest_edge", low, MAX_PIXELS, max(low, PUBLISHED_RULES.max_pixels))
    fewest = section.integer("min_frames", 1, MAX_FRAMES, PUBLISHED_RULES.min_frames)
    most = section.integer("max_frames", fewest, MAX_FRAMES, max(fewest, PUBLISHED_RULES.max_frames))
    fps = section.number("fps", 0.001, MAX_FPS, PUBLISHED_RULES.fps)
    return VideoRules(fps, fewest, most, low, high)


def _video_processor(files: ConfigFiles) -> Section | None:
    if files.has(PROCESSOR):
        processor = files.json(PROCESSOR)
        if processor.get("video_processor") is not None:
            return Section(files, f"{PROCESSOR} of '{files.folder}'", processor).section("video_processor")
    if not files.has(VIDEO_PREPROCESSOR):
        return None
    return Section(files, f"{VIDEO_PREPROCESSOR} of '{files.folder}'", files.json(VIDEO_PREPROCESSOR))
