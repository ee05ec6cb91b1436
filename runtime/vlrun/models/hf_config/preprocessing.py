"""Limits and normalization of still images.

transformers 4 saves them as preprocessor_config.json, transformers 5 as ``image_processor`` in processor_config.json,
which has priority there.
"""

from __future__ import annotations

import math

from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.models.hf_config.files import ConfigFiles
from vlrun.models.hf_config.json_section import Section

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
BICUBIC = 3
MAX_MIN_PIXELS = 1 << 22
"""Limit of the minimum: every smaller image is enlarged to it, which must not cost minutes."""


def preprocessing(files: ConfigFiles, vision: VisionDimensions) -> Preprocessing:
    """Return limits and normalization.

    Raises:
        VlrunError: A value is missing or wrong, or vlrun preprocesses images differently.
    """
    section = _image_processor(files)
    expected = {"patch_size": vision.patch, "temporal_patch_size": vision.temporal_patch, "merge_size": vision.merge}
    for key, value in expected.items():
        if section.values.get(key) != value:
            found = section.values.get(key)
            raise files.error(
                f"the {key} of '{files.folder}' is {value} in config.json, but {found!r:.40} in {section.source}"
            )
    for key in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not section.flag(key, True):
            raise section.wrong(key, "true")
    if section.integer("resample", 0, default=BICUBIC) != BICUBIC:
        raise section.wrong("resample", f"{BICUBIC} (bicubic)")
    if not math.isclose(section.number("rescale_factor", 0, 1, 1 / 255), 1 / 255, rel_tol=1e-6):
        raise section.wrong("rescale_factor", "1/255")
    token = (vision.patch * vision.merge) ** 2
    low, high = _limits(section, token)
    return Preprocessing(low, high, section.rgb("image_mean", -10, 10), section.rgb("image_std", 1e-6, 10))


def _image_processor(files: ConfigFiles) -> Section:
    if files.has(PROCESSOR):
        processor = files.json(PROCESSOR)
        if processor.get("image_processor") is not None:
            return Section(files, f"{PROCESSOR} of '{files.folder}'", processor).section("image_processor")
    if not files.has(PREPROCESSOR):
        raise files.error(f"the checkpoint '{files.folder}' lacks {PREPROCESSOR}, or {PROCESSOR} with image_processor")
    return Section(files, f"{PREPROCESSOR} of '{files.folder}'", files.json(PREPROCESSOR))


def _limits(section: Section, token: int) -> tuple[int, int]:
    """Return minimum and maximum pixels. As in transformers, ``min_pixels`` and ``max_pixels`` replace ``size``."""
    size = section.section("size") if section.has("size") else section
    limits = []
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        source, key = (section, name) if section.has(name) or not size.has(edge) else (size, edge)
        if source is section and not section.has(name) and size.has(name):
            source = size
        limits.append((source, key, source.integer(key, 1)))
    (low_source, low_key, low), (high_source, high_key, high) = limits
    if low > MAX_MIN_PIXELS:
        raise low_source.wrong(low_key, f"at most {MAX_MIN_PIXELS}")
    if high < max(low, token):
        raise high_source.wrong(high_key, f"at least {max(low, token)}")
    return low, high
