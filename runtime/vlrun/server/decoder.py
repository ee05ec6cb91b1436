"""Decodes one file in a process of its own: what people send in formats with large decoders.

``python -m vlrun.server.decoder`` reads a line of JSON, an ``Opening``, and the file. Each reply is a line of JSON, a
``Reply``, and the pixels that it announces. For a document, each further line is a ``Drawing``. A crash, endless work
or too much memory ends this process only: ``decoder_process`` starts it and tells the client.
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
from vlrun.media.pdf import PendingPage, page_sizes

NAME = "the file"
"""What messages call it."""
PHOTOS = ("AVIF", "HEIF")
"""Pillow's names of the image formats that are decoded here."""
SECONDS = 30
"""Processor time of the process, its start included. The slowest pages have 10 s each, of usual ones 16 take 3 s."""
MEMORY = 3 * 2**29
"""Bytes of address space: 1.5 GiB. A photo of 50 megapixels takes 20 bytes a pixel."""
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_MOST_LIKELY = "1000"
"""Score of the process that the system ends first when memory runs out."""

Kind: TypeAlias = Literal["photo", "document"]
Pixels: TypeAlias = npt.NDArray[np.uint8]


class Opening(msgspec.Struct, frozen=True):
    """What follows: ``size`` bytes of a file."""

    kind: Kind
    size: int
    max_pixels: int
    max_pages: int


class Drawing(msgspec.Struct, frozen=True):
    """A page to draw, with its width and height."""

    number: int
    width: int
    height: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """``sizes``: width and height of each page; ``shape``: height and width of the RGB pixels that follow.

    ``error``: the name of a MediaError, with its ``message``, and the ``extra`` that is missing.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    message: str = ""
    extra: str = ""


Answer: TypeAlias = tuple[Reply, Pixels | None]


def _photo(opening: Opening, encoded: bytes, _drawings: Iterator[Drawing]) -> Iterator[Answer]:
    limits = ImageLimits(PHOTOS, opening.size, opening.max_pixels, reduces=False, strict=True)
    image = open_image(encoded, limits)
    yield Reply(shape=image.rgb.shape[:2], notes=image.notes), image.rgb


def _document(opening: Opening, encoded: bytes, drawings: Iterator[Drawing]) -> Iterator[Answer]:
    yield Reply(sizes=tuple(page_sizes(encoded, NAME, opening.max_pages))), None
    for drawing in drawings:
        with PendingPage(encoded, NAME, drawing.number, (drawing.width, drawing.height), "").opened() as page:
            yield Reply(shape=page.rgb.shape[:2]), page.rgb


_KINDS: Mapping[Kind, Callable[[Opening, bytes, Iterator[Drawing]], Iterator[Answer]]] = {
    "photo": _photo,
    "document": _document,
}


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer the requests about one file, up to the first error."""
    opening = msgspec.json.decode(requests.readline(), type=Opening)
    encoded = requests.read(opening.size)
    drawings = (msgspec.json.decode(line, type=Drawing) for line in requests)
    try:
        for reply, pixels in _KINDS[opening.kind](opening, encoded, drawings):
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


def limit_resources() -> None:
    """Bound processor time and memory of this process, and forbid it to write files."""
    limits = {
        resource.RLIMIT_CPU: SECONDS,
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
    limit_resources()
    with suppress(BrokenPipeError):  # nobody waits for the reply
        serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
