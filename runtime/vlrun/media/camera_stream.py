"""Opens cameras and streams with PyAV, which is imported for the first one only. Their delay does not grow."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from vlrun.errors import MediaNotFound, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.camera_source import NETWORK_SECONDS, CameraSource

if TYPE_CHECKING:
    from av import FFmpegError, VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

EXTRA = "video"
PICTURE_SECONDS = 30.0
"""Without a picture that can be decoded, a stream is broken: cameras send a whole one every 20 seconds at least."""
MAX_FRAME_PIXELS = 7680 * 4320
"""Width x height, 8K. A decoder keeps up to 16 frames of 1.5 bytes a pixel."""
MAX_DELAY_SECONDS, PATIENCE_SECONDS = 2.0, 2.0
"""If frames are later than that, and for so long, they arrive faster than they are decoded: some must be dropped. A
network that paused delivers a few seconds at once, which are decoded in less time.
"""
CAUGHT_UP_SECONDS = 0.005
"""A packet that takes longer to arrive was waited for: nothing is left in the buffers."""
DRIFT = 2e-4
"""The clocks of two devices differ by less, as a share of the time."""


def check_installed(source: CameraSource) -> None:
    """Raise MissingExtra if the package for cameras is not installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise MissingExtra(f"the camera '{source.name}' needs another package", EXTRA) from None


@contextmanager
def opened_camera(source: CameraSource) -> Iterator[Iterator[VideoFrame]]:
    """Connect to a camera for a block, and return its frames as they arrive. They end if the stream does.

    Raises:
        MediaError: It does not answer, sends no video or stops sending, in the block, too.
    """
    import av

    opened = False
    try:
        timeout = NETWORK_SECONDS, NETWORK_SECONDS
        options = {"fpsprobesize": "0", **source.options}  # the frame rate is of no use, and takes frames to find out
        with av.open(source.url, format=source.format, options=options, timeout=timeout) as container:
            opened = True
            yield _decoded(container, _video(container, source), source)
    except av.FFmpegError as error:  # its text has the URL with the password
        raise _error(error, source, opened=opened) from None


class DelayGuard:
    """Tells which packets must be dropped because they arrive faster than they are decoded."""

    def __init__(self) -> None:
        self._least: float | None = None
        self._last = 0.0
        self._late_since: float | None = None
        self._dropping = False

    def drops(self, sent: float | None, arrived: float, waited: float, whole: bool) -> bool:
        """Return whether a packet must be dropped.

        Args:
            sent: Its time in the stream; None if it has none.
            arrived: The time when it was read.
            waited: How long that took.
            whole: Whether it can be decoded without the packets before it.
        """
        if self._dropping:
            if waited > CAUGHT_UP_SECONDS:
                self._least = None
            self._dropping = self._least is not None or not whole
            if self._dropping:
                return True
        if sent is None:
            return False
        offset = arrived - sent
        least = offset if self._least is None else self._least + DRIFT * (arrived - self._last)
        self._least, self._last = min(least, offset), arrived
        if offset - self._least <= MAX_DELAY_SECONDS:
            self._late_since = None
            return False
        self._late_since = arrived if self._late_since is None else self._late_since
        self._dropping = arrived - self._late_since > PATIENCE_SECONDS
        return self._dropping


def _decoded(container: InputContainer, video: VideoStream, source: CameraSource) -> Iterator[VideoFrame]:
    """Yield the frames as they arrive. Packets that are damaged, or precede the first whole picture, give none."""
    import av

    guard, packets, last = DelayGuard(), container.demux(), time.monotonic()
    while True:
        asked = time.monotonic()
        packet = next(packets, None)
        arrived = time.monotonic()
        if packet is None:
            return
        if arrived - last > PICTURE_SECONDS:
            raise MediaNotFound(f"'{source.name}' sends no picture for {PICTURE_SECONDS:g} s")
        if packet.stream_index != video.index or guard.drops(
            _sent(packet), arrived, arrived - asked, packet.is_keyframe
        ):
            continue
        with suppress(av.error.InvalidDataError):
            for frame in video.decode(packet):
                _check_size(frame.width, frame.height, source)
                last = time.monotonic()
                yield frame


def _sent(packet: Packet[Stream]) -> float | None:
    return None if packet.dts is None or packet.time_base is None else float(packet.dts * packet.time_base)


def _video(container: InputContainer, source: CameraSource) -> VideoStream:
    """Return the stream with the video. Raises UnsupportedMedia and MediaTooLarge."""
    if not container.streams.video:
        what = "only sound" if container.streams.audio else "no video"
        raise UnsupportedMedia(f"'{source.name}' sends {what}")
    video = container.streams.video[0]
    if video.codec_context is None:
        raise UnsupportedMedia(f"'{source.name}' sends video in a format that PyAV cannot decode")
    _check_size(video.codec_context.width, video.codec_context.height, source)
    video.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    video.codec_context.thread_count = 1  # decoding with several threads delays each frame, and the model needs them
    return video


def _check_size(width: int, height: int, source: CameraSource) -> None:
    if width * height > MAX_FRAME_PIXELS:
        limit = f"the limit is {MAX_FRAME_PIXELS:,} pixels"
        raise MediaTooLarge(f"'{source.name}' sends frames of {width} x {height}; {limit}")


def _error(error: FFmpegError, source: CameraSource, *, opened: bool) -> MediaNotFound | UnsupportedMedia:
    """Return an error of FFmpeg as one of vlrun, without the URL."""
    from av import error as av_error

    name, reason = f"'{source.name}'", error.strerror or type(error).__name__
    unreadable = isinstance(error, av_error.InvalidDataError)
    if not opened and (unreadable or isinstance(error, av_error.ArgumentError | av_error.DemuxerNotFoundError)):
        return UnsupportedMedia(f"{name} sends no video that vlrun can read, or a playlist: it needs the stream itself")
    if isinstance(error, av_error.ExitError | av_error.TimeoutError):
        silent = "sends nothing any more" if opened else "does not answer"
        text = f"{name} {silent}, for {NETWORK_SECONDS:g} s"
    elif isinstance(error, av_error.HTTPUnauthorizedError | av_error.HTTPForbiddenError):
        text = f"{name} refuses the user name or password: SCHEME://USER:PASSWORD@HOST/PATH has them"
    elif isinstance(error, av_error.HTTPNotFoundError):
        text = f"{name} does not exist: the camera has no stream of this path"
    elif source.host is not None and not opened and not _resolves(source.host):
        text = f"cannot open {name}: there is no host of this name"
    elif opened and (unreadable or error.errno == errno.EIO):
        text = f"the stream of {name} was interrupted"
    else:
        text = f"cannot {'read' if opened else 'open'} the camera {name}: {reason}"
    return MediaNotFound(text)


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
