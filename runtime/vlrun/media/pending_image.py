"""The images and videos of a question: their headers are read before any of them is decoded. A PDF has several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image as PILImage

from vlrun.errors import MediaTooLarge, OptionError
from vlrun.media.clip import Clip
from vlrun.media.foreign_formats import VIDEO_BYTES, is_pdf, is_video
from vlrun.media.image import DEFAULT_LIMITS, Image, ImageLimits, ImageSource, check_pixels, image_size, opened_image
from vlrun.media.page_ranges import parse_pages
from vlrun.media.pdf import PendingPage, read_pages
from vlrun.media.sources import UNNAMED, read_source
from vlrun.media.video import PendingClip, Video, open_pending, opens_as_video
from vlrun.types.arguments import text

MAX_IMAGES = 64
MAX_TOTAL_PIXELS = 1_000_000_000
"""Of all images of a question: 64 photos of 15 megapixels. A conversation keeps 3 bytes of each."""


class Pending(Protocol):
    """An image that is not decoded yet: a file, a page of a document."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before rotation."""

    @property
    def pixels(self) -> int:
        """Width x height."""

    def opened(self, shown: tuple[int, int] | None = None) -> AbstractContextManager[Image]:
        """Open it as ``opened_image`` does; ``shown`` are width and height that the model sees, if they are known."""


class PendingImage:
    """A source whose header was read. Its pixels are not kept, and its bytes only if they cannot be read again.

    Attributes:
        size: Width and height before rotation.

    Args:
        source: The source.
        limits: What it may have.
        read: The bytes of the source and its name in messages, if they have been read.

    Raises:
        MediaError: As ``open_image``, for what the header shows.
    """

    def __init__(
        self, source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS, read: tuple[bytes, str] | None = None
    ) -> None:
        self._source = source
        self._limits = limits
        if isinstance(source, np.ndarray):
            with self.opened() as image:
                self._source = image
        if isinstance(self._source, Image | PILImage.Image):
            self.size = self._source.size
            if isinstance(self._source, PILImage.Image):
                check_pixels(self.size, UNNAMED, limits)
            return
        encoded, name = read or read_source(source, limits.max_bytes)
        self.size = image_size(encoded, limits, name)
        if not _can_be_read_again(source):
            self._source = encoded

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.size[0] * self.size[1]

    @contextmanager
    def opened(self, shown: tuple[int, int] | None = None) -> Iterator[Image]:  # noqa: ARG002 - all pixels are needed
        """Open it as ``opened_image`` does."""
        with opened_image(self._source, self._limits) as image:
            yield image


@dataclass(frozen=True)
class Pdf:
    """A PDF file of which only some pages are meant.

    Attributes:
        source: The file: a path, bytes, or a file opened in binary mode.
        pages: The pages, as "1-3,7"; None for all.

    Raises:
        OptionError: ``pages`` names none.
    """

    source: str | os.PathLike[str] | bytes
    pages: str | None = None

    def __post_init__(self) -> None:
        source: object = self.source
        if not isinstance(source, str | os.PathLike | bytes | bytearray) and not hasattr(source, "read"):
            raise OptionError(f"source must be a path, bytes or a file, not an image or {type(source).__name__}")
        if self.pages is not None:
            parse_pages(text("pages", self.pages))


Source = ImageSource | Pdf | Video | Clip
PendingMedia: TypeAlias = Pending | PendingClip | Clip
"""An image or a video that is not decoded yet, or a clip, which is."""


def read_headers(sources: Sequence[Source], pages: str | None = None) -> list[PendingMedia]:
    """Read the headers of the images and videos of a question, before any is decoded.

    Args:
        sources: Images, PDF files and videos.
        pages: The pages of all PDF files that do not choose their own.

    Raises:
        MediaError: As ``open_image``, for what a header shows, or if the images have too many pixels together.
        OptionError: There are too many, or there is no PDF file that ``pages`` could mean.
    """
    if len(sources) > MAX_IMAGES:
        raise OptionError(f"a question can have at most {MAX_IMAGES} images, not {len(sources)}")
    pending: list[PendingMedia] = []
    documents = 0
    for source in sources:
        images = _read_header(source, pages)
        documents += any(isinstance(image, PendingPage) for image in images)
        pending += images
        if len(pending) > MAX_IMAGES:
            raise OptionError(f"a question can have at most {MAX_IMAGES} images and pages: choose fewer")
        if sum(image.pixels for image in pending) > MAX_TOTAL_PIXELS:
            limit = f"{MAX_TOTAL_PIXELS // 1_000_000:,} megapixels"
            raise MediaTooLarge(f"the images have more than {limit} together, the limit: use fewer or smaller ones")
    if pages is not None and not documents:
        raise OptionError("pages are for PDF files, and none is given")
    return [_with_name(image) for image in pending] if documents > 1 else pending


def _read_header(source: Source, pages: str | None) -> Sequence[PendingMedia]:
    """Return the image or video of a source, or the pages of a PDF file."""
    if isinstance(source, Clip):
        return [source]
    if isinstance(source, Video) or opens_as_video(source):
        return [PendingClip(source if isinstance(source, Video) else Video(source))]  # type: ignore[arg-type]
    given, pages = (source.source, source.pages or pages) if isinstance(source, Pdf) else (source, pages)
    if isinstance(given, Image | PILImage.Image | np.ndarray):
        return [PendingImage(given)]
    encoded, name = read_source(given, DEFAULT_LIMITS.max_bytes)
    if is_video(encoded[:VIDEO_BYTES]):  # of a pipe or an open file
        return [PendingClip(Video(encoded), read=(encoded, name))]
    if is_pdf(encoded):
        return read_pages(encoded, name, parse_pages(pages) if pages is not None else None)
    if isinstance(source, Pdf):
        raise OptionError(f"{name} is no PDF file, so it has no pages")
    return [PendingImage(given, read=(encoded, name))]


def _with_name(image: PendingMedia) -> PendingMedia:
    """Return a page with a label that names its document, too."""
    if not isinstance(image, PendingPage):
        return image
    document = os.path.basename(image.name.strip("'"))  # noqa: PTH119 - or "the image", which is no path
    return replace(image, label=f"{image.label} of {document}")


OpenClip: TypeAlias = Callable[[PendingClip, int], Clip]
"""Opens a video of a question, of which there are so many."""


def open_for_any_model(pending: PendingClip, _among: int) -> Clip:
    """Open a video as ``open_video`` does."""
    return open_pending(pending)


def open_images(sources: Sequence[Source], open_clip: OpenClip = open_for_any_model) -> list[Image | Clip]:
    """Open the images and videos of a question. Raises as ``read_headers``, ``open_image`` and ``open_video``."""
    headers = read_headers(sources)
    among = sum(isinstance(pending, PendingClip) for pending in headers)
    opened: list[Image | Clip] = []
    for pending in headers:
        if isinstance(pending, Clip):
            opened.append(pending)
        elif isinstance(pending, PendingClip):
            opened.append(open_clip(pending, among))
        else:
            with pending.opened() as image:
                opened.append(image)
    return opened


def open_pages(source: str | os.PathLike[str] | bytes, pages: str | None = None) -> list[Image]:
    """Open pages of a PDF file as images with 200 pixels per inch, which the prompt calls by their numbers.

    Args:
        source: A path, bytes, or a file opened in binary mode.
        pages: The pages, as "1-3,7"; None for all.

    Raises:
        MediaError: The file cannot be used, or has no such page.
        OptionError: There are too many pages, or ``pages`` names none.
    """
    return [page for page in open_images([Pdf(source, pages)]) if isinstance(page, Image)]


def _can_be_read_again(source: object) -> bool:
    """Return whether reading a source twice gives the same bytes: a pipe is empty after the first time."""
    return isinstance(source, bytes) or (isinstance(source, str | os.PathLike) and Path(source).is_file())
