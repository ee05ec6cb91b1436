"""Decodes one file in a process of its own: what people send in formats with large decoders.

``python -m vlrun.server.decoder`` reads a line of JSON, an ``Opening``, and the file. Each reply is a line of JSON, a
``Reply``, and the pixels that it announces. Each further line asks for a page of a document (``Drawing``) or frames of
a video (``Sampling``, ``Comparing``). A crash, endless work or too much memory ends this process only:
``decoder_process`` starts it and tells the client.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from vlrun.errors import MediaError, MediaTooLarge, MissingExtra
from vlrun.media.image import ImageLimits, open_image
from vlrun.media.keyframes import changed_times
from vlrun.media.pdf import PendingPage, page_sizes
from vlrun.media.resizing import resize_rgb
from vlrun.media.video_file import VideoFile, VideoLimits

NAME = "the file"
"""What messages call it."""
Kind: TypeAlias = Literal["photo", "document", "video"]
PHOTOS = ("AVIF", "HEIF")
"""Pillow's names of the image formats that are decoded here."""
SECONDS: Mapping[Kind, int] = {"photo": 30, "document": 30, "video": 60}
"""Processor time of the process, its start included. A page may take 10 s, but usually 16 take 3 s. Between two frames
that are wanted, all have to be decoded: a minute of full HD takes 10 s on two slow cores."""
MEMORY = 3 * 2**29
"""Bytes of address space: 1.5 GiB. A photo of 50 megapixels takes 20 bytes a pixel, a video in 4K some 30 frames."""
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_MOST_LIKELY = "1000"
"""Score of the process that the system ends first when memory runs out."""

Pixels: TypeAlias = npt.NDArray[np.uint8]


class Opening(msgspec.Struct, frozen=True):
    """What follows: ``size`` bytes of a file. ``max_pixels``: of a photo or a frame; ``max_pages``: of a document."""

    kind: Kind
    size: int
    max_pixels: int
    max_pages: int
    max_seconds: float
    max_frames: int


class Drawing(msgspec.Struct, frozen=True, tag=True):
    """A page to draw, with its width and height."""

    number: int
    width: int
    height: int


class Sampling(msgspec.Struct, frozen=True, tag=True):
    """Numbers of the frames to decode, with their width and height. Each has a reply."""

    indices: tuple[int, ...]
    width: int
    height: int


class Comparing(msgspec.Struct, frozen=True, tag=True):
    """Numbers of the frames among which those are wanted that changed, ``limit`` at most. The reply has their times."""

    indices: tuple[int, ...]
    limit: int


Request: TypeAlias = Drawing | Sampling | Comparing


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """``sizes``: width and height of each page, or of the frames of a video, of which there are ``frames``.

    ``shape``: height and width of the RGB pixels that follow; ``times``: seconds of that frame, or those that changed;
    ``error``: the name of a MediaError, with its ``message``, and the ``extra`` that is missing.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    frames: int = 0
    fps: float = 0.0
    times: tuple[float, ...] = ()
    shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    message: str = ""
    extra: str = ""


Answer: TypeAlias = tuple[Reply, Pixels | None]


def _photo(opening: Opening, encoded: bytes, _requests: Iterator[Request]) -> Iterator[Answer]:
    limits = ImageLimits(PHOTOS, opening.size, opening.max_pixels, reduces=False, strict=True)
    image = open_image(encoded, limits)
    yield Reply(shape=image.rgb.shape[:2], notes=image.notes), image.rgb


def _document(opening: Opening, encoded: bytes, requests: Iterator[Request]) -> Iterator[Answer]:
    yield Reply(sizes=tuple(page_sizes(encoded, NAME, opening.max_pages))), None
    for request in requests:
        if isinstance(request, Drawing):
            with PendingPage(encoded, NAME, request.number, (request.width, request.height), "").opened() as page:
                yield Reply(shape=page.rgb.shape[:2]), page.rgb


def _video(opening: Opening, encoded: bytes, requests: Iterator[Request]) -> Iterator[Answer]:
    limits = VideoLimits(
        max_memory_bytes=opening.size,
        max_seconds=opening.max_seconds,
        max_frames=opening.max_frames,
        max_pixels=opening.max_pixels,
    )
    file = VideoFile(encoded, NAME, limits)
    info = file.info
    yield Reply(sizes=((info.width, info.height),), frames=info.frames, fps=info.fps, notes=file.notes), None
    for request in requests:
        match request:
            case Sampling():
                for seconds, rgb in file.frames(request.indices):
                    shown = (request.width, request.height)
                    frame = rgb if (rgb.shape[1], rgb.shape[0]) == shown else resize_rgb(rgb, *shown)
                    yield Reply(shape=frame.shape[:2], times=(seconds,)), frame
            case Comparing():
                yield Reply(times=tuple(changed_times(file.frames(request.indices), request.limit))), None


_KINDS: Mapping[Kind, Callable[[Opening, bytes, Iterator[Request]], Iterator[Answer]]] = {
    "photo": _photo,
    "document": _document,
    "video": _video,
}


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer the requests about one file, up to the first error."""
    opening = msgspec.json.decode(requests.readline(), type=Opening)
    limit_resources(SECONDS[opening.kind])
    encoded = requests.read(opening.size)
    further = (msgspec.json.decode(line, type=Request) for line in requests)
    try:
        for reply, pixels in _KINDS[opening.kind](opening, encoded, further):
            _send(replies, reply, pixels)
    except MediaError as error:
        _send(replies, error_reply(error), None)
    except MemoryError:
        _send(replies, error_reply(MediaTooLarge(f"{NAME} does not fit into memory")), None)


def _send(replies: IO[bytes], reply: Reply, pixels: Pixels | None) -> None:
    replies.write(msgspec.json.encode(reply) + b"\n")
    if pixels is not None:
        replies.write(np.ascontiguousarray(pixels).data)
    replies.flush()


def error_reply(error: MediaError) -> Reply:
    """The reply that reports an error."""
    extra, message = (error.extra, error.need) if isinstance(error, MissingExtra) else ("", error.message)
    return Reply(error=type(error).__name__, message=message, extra=extra)


def limit_resources(seconds: int) -> None:
    """Bound processor time and memory of this process, and forbid it to write files."""
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        _, most = resource.getrlimit(kind)
        allowed = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (allowed, most if kind == resource.RLIMIT_CPU else allowed))
    with suppress(OSError):
        _OOM_SCORE.write_text(_MOST_LIKELY, encoding="ascii")


def main() -> None:
    """Serve standard input and output. Nothing else can write to the output: decoders may print."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with suppress(BrokenPipeError):  # nobody waits for the reply
        serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
