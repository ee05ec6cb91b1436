"""Sampling and sizes of video frames, read from a checkpoint's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.published import PUBLISHED, needs_published
from vlrun.errors import DamagedModel, VlrunError
from vlrun.models.hf_config.video_rules import video_rules
from vlrun.types.video_rules import PUBLISHED_RULES, VideoRules


class Files:
    """The configuration files of a checkpoint."""

    folder = Path("model")

    def __init__(self, contents: Mapping[str, Any]) -> None:
        self._contents = contents

    def has(self, name: str) -> bool:
        return name in self._contents

    def json(self, name: str) -> Any:
        return self._contents[name]

    def error(self, message: str) -> VlrunError:
        return DamagedModel(message)


OWN = {"size": {"shortest_edge": 100, "longest_edge": 5000}, "fps": 4, "min_frames": 2, "max_frames": 12}


@pytest.mark.parametrize(
    "contents",
    [
        {"video_preprocessor_config.json": OWN},
        {"processor_config.json": {"video_processor": OWN}, "video_preprocessor_config.json": {"fps": 1}},
        {"processor_config.json": {"image_processor": {}}, "video_preprocessor_config.json": OWN},
    ],
)
def test_the_rules_of_a_checkpoint(contents: Mapping[str, Any]) -> None:
    assert video_rules(Files(contents)) == VideoRules(4.0, 2, 12, 100, 5000)  # type: ignore[arg-type]


def test_without_a_file_they_are_those_of_the_published_models() -> None:
    assert video_rules(Files({})) == PUBLISHED_RULES  # type: ignore[arg-type]
    assert video_rules(Files({"video_preprocessor_config.json": {}})) == PUBLISHED_RULES  # type: ignore[arg-type]


@needs_published
def test_the_published_file() -> None:
    name = "video_preprocessor_config.json"
    published = json.loads((PUBLISHED / name).read_text("utf-8"))
    assert video_rules(Files({name: published})) == PUBLISHED_RULES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0}, {"fps": "2"}, {"max_frames": 1 << 17}, {"min_frames": 9, "max_frames": 8}, {"size": [1]},
     {"size": {"shortest_edge": 9, "longest_edge": 8}}, {"size": {"longest_edge": 1 << 40}}],
)  # fmt: skip
def test_a_wrong_value_is_named(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(DamagedModel, match=r"video_preprocessor_config\.json of 'model'"):
        video_rules(Files({"video_preprocessor_config.json": wrong}))  # type: ignore[arg-type]
