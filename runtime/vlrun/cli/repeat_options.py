"""Options of ``vlrun ask`` that ask the same questions again and again: about images, a camera, or a long video."""

from __future__ import annotations

from dataclasses import dataclass

import click

from vlrun.cli.option_groups import OptionTable
from vlrun.cli.parameter_types import NAME, FiniteRange
from vlrun.errors import OptionError

EVERY_SECONDS = 10.0
"""A model on a CPU needs some seconds for a frame, and people and goods move within minutes."""

REPEAT_OPTIONS: OptionTable = {
    "each": {"is_flag": True, "help": "Ask about each image alone: of folders, patterns and files."},
    "recursive": {"is_flag": True, "help": "With --each: also the images of subfolders."},
    "camera": {"type": NAME, "metavar": "DEVICE|URL", "help": "Ask about a camera: /dev/video0, rtsp://HOST/PATH."},
    "every": {
        "type": FiniteRange(min=0),
        "metavar": "SECONDS",
        "help": "With --camera: seconds between two frames. [default: 10; with --on-change: 0]",
    },
    "on_change": {"is_flag": True, "help": "With --camera: only frames in which something has changed."},
    "limit": {"type": click.IntRange(1), "metavar": "N", "help": "With --camera: stop after N frames."},
    "window": {
        "type": FiniteRange(min=1),
        "metavar": "SECONDS",
        "help": "Ask about each part of this length of a long video, then summarise.",
    },
}


@dataclass(frozen=True)
class RepeatOptions:
    """The values of ``REPEAT_OPTIONS``."""

    each: bool = False
    recursive: bool = False
    camera: str | None = None
    every: float | None = None
    on_change: bool = False
    limit: int | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        if sum((self.each, self.camera is not None, self.window is not None)) > 1:
            raise OptionError("--each, --camera and --window exclude each other")
        if self.recursive and not self.each:
            raise OptionError("--recursive needs --each")
        if self.camera is None and (self.every is not None or self.on_change or self.limit is not None):
            raise OptionError("--every, --on-change and --limit need --camera")

    @property
    def seconds(self) -> float:
        """Least seconds between two frames of the camera."""
        if self.every is not None:
            return self.every
        return 0.0 if self.on_change else EVERY_SECONDS
