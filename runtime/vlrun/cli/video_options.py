"""Options for videos: which frames of them are used, and in what size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from vlrun.cli.option_groups import OptionTable
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.media.pending_image import Source

VIDEO_OPTIONS: OptionTable = {
    "fps": {"type": float, "metavar": "N", "help": "Frames of a video per second. [default: 2, 128 frames at most]"},
    "max_frames": {"type": int, "metavar": "N", "help": "Maximum number of frames of a video."},
    "max_pixels": {
        "type": int,
        "metavar": "N",
        "help": "Maximum pixels of a frame. [default: from --detail]",
    },
    "start": {"type": float, "metavar": "SECONDS", "help": "Use a video from here on."},
    "end": {"type": float, "metavar": "SECONDS", "help": "Use a video up to here."},
    "keyframes": {"is_flag": True, "help": "Use only the frames in which something changed, of a fixed camera."},
}


@dataclass(frozen=True)
class VideoOptions:
    """The values of ``VIDEO_OPTIONS``."""

    fps: float | None = None
    max_frames: int | None = None
    max_pixels: int | None = None
    start: float | None = None
    end: float | None = None
    keyframes: bool = False

    def apply(self, source: str | bytes) -> Source:
        """Return a source with these options if it is a video. Raises OptionError for a value that is out of range."""
        from vlrun.media.video import Video, opens_as_video

        if not opens_as_video(source):
            return source
        return Video(source, self.fps, self.max_frames, self.max_pixels, self.start, self.end, self.keyframes)

    def check_used(self, sources: Sequence[Source]) -> None:
        """Raise OptionError if an option is given, and no video."""
        from vlrun.media.video import Video

        given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        if given and not any(isinstance(source, Video) for source in sources):
            raise OptionError(f"--{given[0].replace('_', '-')} is for videos, and none is given")
