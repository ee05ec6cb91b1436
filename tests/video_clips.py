"""Small videos that PyAV encodes: each frame shows its own number as black and white stripes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

WIDTH, HEIGHT, BITS = 96, 64, 12


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a frame: stripes for its number, in a frame that is red above and blue below."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, width // BITS)
    rgb = np.repeat(np.pad(row, (0, width - len(row)))[None, :, None], height, 0).repeat(3, 2)
    rgb[: height // 4] = (200, 30, 30)
    rgb[-height // 4 :] = (30, 30, 200)
    return rgb


def number_of(rgb: np.ndarray) -> int:
    """Return the number that a frame shows, in any size whose width was a multiple of ``BITS``."""
    height, width = rgb.shape[:2]
    middle = rgb[height // 2 - 2 : height // 2 + 2].mean(axis=(0, 2))
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(sum(1 << bit for bit, at in enumerate(centres) if middle[at] > 127))


def video(
    count: int,
    fps: int = 10,
    *,
    form: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    gop: int = 12,
    times: Sequence[int] | None = None,
    sound: bool = False,
) -> bytes:
    """Return a video of ``count`` frames.

    ``times``: milliseconds of the frames, if the frame rate varies.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=fps))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "2", "crf": "18"}
        if sound:
            _add_sound(container)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts = times[number] if times else number * 1000 // fps
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sound_only() -> bytes:
    """Return an MP4 file without video."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        _add_sound(container)
    return file.getvalue()


def _add_sound(container: av.container.OutputContainer) -> None:
    stream = container.add_stream("aac", rate=44100)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 44100, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
