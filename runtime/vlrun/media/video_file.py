"""Reads video files with PyAV, which is imported for the first one only: seeks, and decodes only the frames asked for.

libav opens no other file or address than the one given, and only as one of ``FORMATS``: a playlist could name others.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vlrun.errors import DamagedMedia, MediaNotFound, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.clip import Rgb
from vlrun.media.frame_index import FrameIndex
from vlrun.media.frame_sampling import DEFAULT_FPS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

EXTRA = "video"
FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
"""Of libav, by its names."""
MAX_DECODER_THREADS = 4
"""Each of them holds a frame."""


@dataclass(frozen=True)
class VideoLimits:
    """Limits for videos to open.

    Attributes:
        max_bytes: Size of a file, which is read once from its beginning to its end. 8 GiB are two hours of 4K.
        max_memory_bytes: Size of a video that is not a file: bytes, stdin.
        max_seconds: Duration.
        max_frames: Number of frames, each of which takes 16 bytes: a day at 60 frames per second.
        max_pixels: Width x height of a frame: 8K.
        decode_seconds: Time to decode the frames of one video.
    """

    max_bytes: int = 8 * 2**30
    max_memory_bytes: int = 256 * 2**20
    max_seconds: float = 24 * 3600.0
    max_frames: int = 24 * 3600 * 60
    max_pixels: int = 2**25
    decode_seconds: float = math.inf


DEFAULT_VIDEO_LIMITS = VideoLimits()
"""For the user's own files."""

VideoData: TypeAlias = Path | bytes
"""What holds a video: a file, or its bytes."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file has.

    Attributes:
        width: Of a frame, upright.
        height: Of a frame, upright.
        fps: Average frame rate; 24 if the file does not tell it, as in the reference.
        frames: Number of frames.
    """

    width: int
    height: int
    fps: float
    frames: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps


class VideoFile:
    """A video file. Between calls it is closed.

    Args:
        data: The file.
        name: Its name in messages.
        limits: What it may have.

    Attributes:
        info: What it has.
        notes: Messages for the user about what is missing.

    Raises:
        MissingExtra: PyAV is not installed.
        MediaError: The file cannot be used, or is beyond a limit.
    """

    def __init__(self, data: VideoData, name: str, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> None:
        self._data = data
        self.name = name
        self._limits = limits
        self._check_size()
        with self._opened() as (container, stream):
            self._check_pixels(stream.width, stream.height)
            announced, fps = stream.frames, _rate(stream)
            first, self._index = self._scan(container, stream)
        self._check_pixels(first.width, first.height)
        self.info = VideoInfo(*_upright_size(first), fps or DEFAULT_FPS, len(self._index))
        if self.info.duration > limits.max_seconds:
            raise MediaTooLarge(f"{name} is longer than {limits.max_seconds:g} s, the limit")
        missing = announced - len(self._index)
        cut = missing > max(1, announced // 100)  # edit lists hide a few frames
        self.notes: tuple[str, ...] = (
            (f"{name} is cut short or damaged: {len(self._index):,} of its {announced:,} frames are there",)
            if cut
            else ()
        )

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[float, Rgb]]:
        """Decode frames.

        Args:
            indices: Numbers of the frames, in ascending order.

        Yields:
            The seconds of each frame (its number divided by the frame rate, as in the reference) and its upright
            pixels. In place of a damaged frame comes the next one, or the last one that there is.

        Raises:
            MediaError: No frame can be decoded, or a limit is reached.
        """
        end = time.monotonic() + self._limits.decode_seconds
        with self._opened() as (container, stream):
            decoder = _Decoder(container, stream, self._index, self.name, end)
            for index in indices:
                frame = decoder.frame(index)
                self._check_pixels(frame.width, frame.height)
                yield index / self.info.fps, _upright(frame, self.name)

    def _check_size(self) -> None:
        if isinstance(self._data, bytes):
            size, limit = len(self._data), self._limits.max_memory_bytes
        else:
            try:
                size, limit = self._data.stat().st_size, self._limits.max_bytes
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not a path"
                raise MediaNotFound(f"cannot open {self.name}: {reason}") from error
        if not size:
            raise DamagedMedia(f"{self.name} is empty")
        if size > limit:
            raise MediaTooLarge(f"{self.name} has more than {limit:,} bytes, the limit")

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._limits.max_pixels:
            raise MediaTooLarge(
                f"{self.name} has frames of {width} x {height}; the limit is {self._limits.max_pixels:,} pixels"
            )

    def _scan(self, container: InputContainer, stream: VideoStream) -> tuple[VideoFrame, FrameIndex]:
        """Read the times of all frames without decoding them, and decode the first frame."""
        import av

        first: VideoFrame | None = None
        index = FrameIndex()
        try:
            for packet in container.demux(stream):
                if first is None:
                    first = next(iter(_decoded(stream, packet)), None)
                if packet.size and not packet.is_discard:
                    index.add(packet.pts if packet.pts is not None else packet.dts, keyframe=packet.is_keyframe)
                if len(index) > self._limits.max_frames:
                    raise MediaTooLarge(f"{self.name} has more than {self._limits.max_frames:,} frames, the limit")
        except av.FFmpegError:  # the rest of a damaged file
            pass
        index.finish()
        if first is None or not len(index):
            raise DamagedMedia(f"{self.name} has no frame that can be decoded: it is damaged or cut short")
        return first, index

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open the file and find its video. Raises MediaError."""
        try:
            import av
            from av.stream import Discard
        except ImportError:
            raise MissingExtra(f"{self.name} is a video, which needs another package", EXTRA) from None
        source = io.BytesIO(self._data) if isinstance(self._data, bytes) else f"file:{os.fspath(self._data)}"
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            container = av.open(source, "r", options=options, metadata_errors="replace")
        except av.FFmpegError as error:
            raise self._unreadable(error) from None
        with container:
            stream = next((one for one in container.streams.video if not _is_cover(one)), None)
            if stream is None:
                only = ", only sound" if container.streams.audio else ""
                raise UnsupportedMedia(f"{self.name} has no video{only}")
            if stream.codec_context is None:
                raise UnsupportedMedia(f"{self.name} is encoded in a way that the installed PyAV cannot decode")
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = min(os.cpu_count() or 1, MAX_DECODER_THREADS)
            yield container, stream

    def _unreadable(self, error: Exception) -> MediaNotFound | DamagedMedia:
        if isinstance(error, OSError) and not isinstance(self._data, bytes):
            return MediaNotFound(f"cannot open {self.name}: {error.strerror}")
        return DamagedMedia(f"{self.name} is damaged or cut short, or not a video that can be read")


class _Decoder:
    """Decodes frames in ascending order. Seeks where a keyframe lies between the last frame and the next one."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, index: FrameIndex, name: str, end: float
    ) -> None:
        self._container = container
        self._stream = stream
        self._index = index
        self._name = name
        self._end = end
        self._frames = self._decode()
        self._current: VideoFrame | None = None
        self._position: int | None = None

    def frame(self, number: int) -> VideoFrame:
        """Return a frame, or the next one that can be decoded, or the last one. Raises MediaError if there is none."""
        target = int(self._index.times[number])
        key = self._index.keyframe_before(target)
        at_start = self._position is None and key == self._index.keyframe_before(int(self._index.times[0]))
        if key is not None and not at_start and (self._position is None or key > self._position):
            self._seek(key, target)
        while self._position is None or self._position < target:
            if not self._advance():
                break
        if self._current is None:
            raise DamagedMedia(f"{self._name} has no frame that can be decoded there: it is damaged or cut short")
        return self._current

    def _seek(self, key: int, target: int) -> None:
        """Seek to a keyframe; if that leads beyond the target, to an earlier one, or to the first byte."""
        import av

        earlier = self._index.keyframe_before(key - 1)
        for goal, of_bytes in ((key, False), (key if earlier is None else earlier, False), (0, True)):
            try:
                self._container.seek(goal, stream=self._stream, unsupported_byte_offset=of_bytes)
            except av.FFmpegError:
                return
            self._frames, self._position = self._decode(), None
            if self._advance() and self._position is not None and self._position <= target:
                return

    def _advance(self) -> bool:
        """Decode the next frame. Returns False at the end."""
        if time.monotonic() > self._end:
            raise MediaTooLarge(f"{self._name} takes too long to decode: choose a part of it with start and end")
        frame = next(self._frames, None)
        if frame is None:
            return False
        time_of_frame = frame.pts if frame.pts is not None else frame.dts
        if time_of_frame is None or not self._index.seekable:
            time_of_frame = 0 if self._position is None else self._position + 1
        self._current, self._position = frame, time_of_frame
        return True

    def _decode(self) -> Iterator[VideoFrame]:
        import av

        try:
            for packet in self._container.demux(self._stream):
                yield from _decoded(self._stream, packet)
        except av.FFmpegError:  # the rest of a damaged file
            return


def _decoded(stream: VideoStream, packet: object) -> list[VideoFrame]:
    """Return the frames that a packet completes; none for a damaged one."""
    import av

    try:
        return stream.decode(packet)  # type: ignore[arg-type]
    except (av.FFmpegError, ValueError):
        return []


def _rate(stream: VideoStream) -> float | None:
    """Return the average frame rate; None if the file does not tell it."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate and rate > 0 else None


def _is_cover(stream: VideoStream) -> bool:
    """Return whether a stream is the cover picture of a sound file."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _upright_size(frame: VideoFrame) -> tuple[int, int]:
    turned = _quarter_turns(frame) % 2
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _upright(frame: VideoFrame, name: str) -> Rgb:
    """Return the pixels as a phone shows them: it writes how the frame is to be turned. Raises DamagedMedia."""
    import av

    try:
        rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, ValueError):
        raise DamagedMedia(f"{name} has a frame that cannot be converted to RGB") from None
    turns = _quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _quarter_turns(frame: VideoFrame) -> int:
    """Return the counterclockwise quarter turns that make a frame upright; PyAV's angle for no rotation is no angle."""
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 180 else 0
