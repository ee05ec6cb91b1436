"""Videos that users give, and clips made of them: which frames are sampled, in what size, and for whom."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeAlias

from vlrun.errors import MediaNotFound, OptionError
from vlrun.media.clip import Clip, Rgb, make_clip
from vlrun.media.foreign_formats import VIDEO_BYTES, is_video
from vlrun.media.frame_sampling import fit_frames, frame_window, frames_between, sample_frames
from vlrun.media.image import DECODING
from vlrun.media.keyframes import changed_times
from vlrun.media.resizing import resize_rgb
from vlrun.media.sources import MAX_NAME, local_path, read_source
from vlrun.media.video_file import DEFAULT_VIDEO_LIMITS, VideoData, VideoFile, VideoLimits
from vlrun.types.arguments import check_fields, flag, number, optional, whole_number
from vlrun.types.video_rules import PUBLISHED_RULES, VideoRules

AUTO_FRAMES = 128
"""Frames of a video for which neither a frame rate nor a number was asked: with the visual tokens that a CPU affords,
more frames would show less than 64 tokens each."""
MAX_FRAMES = 768
"""That a user can ask for, as in the reference."""
MAX_FPS = 240.0
FACTOR = 32
"""Side of a visual token in pixels, in all published models."""
DECODED_FRAMES = 8
"""That the decoder holds, for the budget of pixels that are decoded at once."""

UNNAMED = "the video"

VideoSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | IO[bytes]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of decoded frames, and of all."""


@dataclass(frozen=True)
class Video:
    """A video, and what is wanted of it. A path or bytes that are those of a video stand for ``Video(source)``.

    Attributes:
        source: A path, a file URL of this machine, bytes, or a file opened in binary mode.
        fps: Frames to sample per second. The default is 2, and at most 128 frames.
        max_frames: Maximum of sampled frames.
        max_pixels: Maximum of width x height of a frame that the model sees; replaces ``detail``.
        start: Seconds from which frames are sampled.
        end: Seconds up to which frames are sampled.
        keyframes: Of a fixed camera: keep only the frames in which something changed.

    Raises:
        OptionError: A value is out of its range.
    """

    source: VideoSource
    fps: float | None = None
    max_frames: int | None = None
    max_pixels: int | None = None
    start: float | None = None
    end: float | None = None
    keyframes: bool = False

    def __post_init__(self) -> None:
        source: object = self.source
        if not isinstance(source, str | os.PathLike | bytes | bytearray) and not hasattr(source, "read"):
            raise OptionError(f"source must be a path, bytes or a file, not an image or {type(source).__name__}")
        numbers = dict.fromkeys(("fps", "start", "end"), optional(number))
        counts = dict.fromkeys(("max_frames", "max_pixels"), optional(whole_number))
        check_fields(self, {**numbers, **counts, "keyframes": flag})
        for name in numbers:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a number of at least 0, not {value}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise OptionError(f"fps must lie above 0 and be at most {MAX_FPS:g}, not {self.fps:g}")
        if self.max_frames is not None and not 1 <= self.max_frames <= MAX_FRAMES:
            raise OptionError(f"max_frames must lie between 1 and {MAX_FRAMES}, not {self.max_frames}")
        if self.max_pixels is not None and not FACTOR**2 <= self.max_pixels <= 2**32:
            raise OptionError(f"max_pixels must be at least {FACTOR**2}, the pixels of one visual token")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise OptionError(f"end must be after start, and {self.end:g} s is not after {self.start:g} s")

    @property
    def chooses_frames(self) -> bool:
        """Whether the number of frames is the user's choice."""
        return self.fps is not None or self.max_frames is not None


class PendingClip:
    """A video whose header and frame times were read. No frame is kept, and its bytes only if it is no file.

    Args:
        video: The video, and what is wanted of it.
        limits: What it may have.
        label: What the prompt calls it.
        read: The bytes of the source and its name in messages, if they have been read.

    Attributes:
        size: Width and height of a frame, upright.

    Raises:
        MissingExtra: PyAV is not installed.
        MediaError: The file cannot be used, is beyond a limit, or ends before ``start``.
    """

    def __init__(
        self,
        video: Video,
        limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
        label: str = "",
        read: tuple[bytes, str] | None = None,
    ) -> None:
        data, name = read or _data_of(video.source, limits)
        self.video = video
        self.label = label
        self.name = name
        self._file = VideoFile(data, name, limits)
        info = self.info = self._file.info
        self.size = info.width, info.height
        self._window = frame_window(info.frames, info.fps, video.start, video.end, name)

    @property
    def pixels(self) -> int:
        """Pixels that are kept of it, at most."""
        return PUBLISHED_RULES.max_pixels

    def sampled(self, rules: VideoRules, *, all_of_them: bool = False) -> list[int]:
        """Return the numbers of the sampled frames: of ``all_of_them``, also those beyond the user's maximum."""
        video = self.video
        most = rules.max_frames if all_of_them else min(rules.max_frames, video.max_frames or rules.max_frames)
        wanted = replace(rules, fps=rules.fps if video.fps is None else video.fps, max_frames=most)
        wanted = replace(wanted, min_frames=min(wanted.min_frames, wanted.max_frames))
        return sample_frames(self.info.frames, self.info.fps, wanted, self._window)

    def changed(self, rules: VideoRules, limit: int, progress: Progress | None = None) -> list[int]:
        """Return the numbers of the frames of a fixed camera in which something changed, ``limit`` at most.

        All frames that the frame rate asks for are decoded, one after another. Raises MediaError.
        """
        candidates = self.sampled(replace(rules, max_frames=self.info.frames), all_of_them=True)

        def decoded() -> Iterator[tuple[float, Rgb]]:
            for done, frame in enumerate(self._file.frames(candidates), 1):
                yield frame
                if progress is not None:
                    progress(done, len(candidates))

        with DECODING.hold(DECODED_FRAMES * math.prod(self.size)):
            return [round(seconds * self.info.fps) for seconds in changed_times(decoded(), limit)]

    @property
    def window_notes(self) -> tuple[str, ...]:
        """Message for the user if the part that is meant has no frame."""
        start, end, fps = self.video.start, self.video.end, self.info.fps
        if start is None or end is None or frames_between(self.info.frames, fps, start, end):
            return ()
        used = self._window[0] / fps
        return (f"{self.name}: no frame lies between {start:g} and {end:g} s: the next one is used, at {used:.1f} s",)

    def part(self, start: float, end: float) -> PendingClip:
        """Return a part of the video, for which the file is not read again. Raises MediaNotFound if it ends before."""
        part = copy(self)
        part.video = replace(self.video, start=start, end=end)
        part._window = frame_window(self.info.frames, self.info.fps, start, end, self.name)
        return part

    def has_frame(self, start: float, end: float) -> bool:
        """Return whether a part of the video has a frame: those of a time-lapse are far apart."""
        return bool(frames_between(self.info.frames, self.info.fps, start, end))

    def open(
        self,
        indices: Sequence[int],
        shown: tuple[int, int],
        notes: tuple[str, ...] = (),
        progress: Progress | None = None,
        *,
        fixed: bool = False,
    ) -> Clip:
        """Decode frames one after another, and keep them in the size that is shown. Raises MediaError.

        Args:
            indices: Numbers of the frames.
            shown: Width and height that they are resized to.
            notes: Messages for the user.
            progress: Called with the number of decoded frames, and of all.
            fixed: Whether the model sees exactly these pixels.
        """
        with DECODING.hold(DECODED_FRAMES * math.prod(self.size)):
            frames = self._resized(indices, shown, progress)
            all_notes = (*self._file.notes, *self.window_notes, *notes)
            return make_clip(frames, self.size, all_notes, self.label, fixed=fixed)

    def _resized(
        self, indices: Sequence[int], shown: tuple[int, int], progress: Progress | None
    ) -> Iterator[tuple[float, Rgb]]:
        for number_of_frame, (seconds, rgb) in enumerate(self._file.frames(indices), 1):
            yield seconds, rgb if (rgb.shape[1], rgb.shape[0]) == shown else resize_rgb(rgb, *shown)
            if progress is not None:
                progress(number_of_frame, len(indices))


def open_video(
    source: VideoSource | Video,
    *,
    fps: float | None = None,
    max_frames: int | None = None,
    max_pixels: int | None = None,
    start: float | None = None,
    end: float | None = None,
    keyframes: bool = False,
    limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
) -> Clip:
    """Open a video as a clip, for a turn of a conversation or several questions.

    Args:
        source: A path, a file URL of this machine, bytes, a file opened in binary mode, or a ``vlrun.Video``, which has
            the following options itself.
        fps: Frames to sample per second. The default is 2, and at most 128 frames.
        max_frames: Maximum of sampled frames.
        max_pixels: Maximum of width x height of a frame.
        start: Seconds from which frames are sampled.
        end: Seconds up to which frames are sampled.
        keyframes: Of a fixed camera: keep only the frames in which something changed.
        limits: What the file may have.

    Raises:
        MissingExtra: PyAV is not installed.
        MediaError: The file cannot be used.
        OptionError: A value is out of its range.
    """
    given = (fps, max_frames, max_pixels, start, end)
    if isinstance(source, Video):
        if given != (None,) * len(given) or keyframes:
            raise OptionError("a vlrun.Video has its own options: leave out those of open_video")
        video = source
    else:
        video = Video(source, *given, keyframes)
    return open_pending(PendingClip(video, limits))


def open_pending(pending: PendingClip, progress: Progress | None = None) -> Clip:
    """Open a video for no model in particular, as ``open_video`` does."""
    frames = MAX_FRAMES if pending.video.chooses_frames else AUTO_FRAMES
    indices = pending.sampled(replace(PUBLISHED_RULES, max_frames=frames))
    if pending.video.keyframes:
        indices = pending.changed(PUBLISHED_RULES, len(indices), progress)
    return pending.open(indices, shown_size(pending, len(indices), FACTOR, PUBLISHED_RULES), progress=progress)


def shown_size(pending: PendingClip, frames: int, factor: int, rules: VideoRules) -> tuple[int, int]:
    """Return width and height in which a number of frames is shown. Raises MediaError for frames that cannot be."""
    limit = pending.video.max_pixels
    if limit is not None:
        rules = replace(rules, max_pixels=min(rules.max_pixels, limit * max(frames, 2)))
        rules = replace(rules, min_pixels=min(rules.min_pixels, rules.max_pixels))
    return fit_frames(frames, *pending.size, factor, rules)


def opens_as_video(source: object) -> bool:
    """Return whether a source is a ``Video``, or a file or bytes that are those of a video."""
    if isinstance(source, Video):
        return True
    if isinstance(source, bytes | bytearray):
        return is_video(bytes(source[:VIDEO_BYTES]))
    path = _regular_file(source)
    try:
        if path is None:
            return False
        with path.open("rb") as file:
            return is_video(file.read(VIDEO_BYTES))
    except OSError:
        return False


def _regular_file(source: object) -> Path | None:
    """Return the path of a source that is a regular file; reading a pipe would empty it."""
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        path = local_path(os.fsdecode(source))
        return path if path.is_file() else None
    except (MediaNotFound, OSError, ValueError):
        return None


def _data_of(source: VideoSource, limits: VideoLimits) -> tuple[VideoData, str]:
    """Return the file of a source, or its bytes if it is none, and its name in messages."""
    if (path := _regular_file(source)) is not None:
        return path, f"'{os.fsdecode(source)[:MAX_NAME]}'"  # type: ignore[arg-type] # it is a path
    return read_source(source, limits.max_memory_bytes, UNNAMED)
