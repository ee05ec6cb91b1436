"""Files of formats with large decoders, opened in a process of their own: photos in HEIC and AVIF, pages of PDF files.

Nothing of them but sizes in headers is parsed in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from vlrun.engine.request import Cancellation
from vlrun.errors import MediaTooLarge, UnsupportedMedia
from vlrun.media.foreign_formats import is_heif_or_avif, is_pdf
from vlrun.media.heif import stated_size
from vlrun.media.image import DECODING, Image, ResizedImage, make_image
from vlrun.media.page_ranges import choose_pages, parse_pages
from vlrun.server.decoder import NAME, Drawing, Kind, Opening
from vlrun.server.decoder_process import DecoderProcess, decoding
from vlrun.server.limits import ServerLimits

_MEGA = 1_000_000
_PACKAGES = {"pi_heif": ("image/heic", "image/heif"), "pypdfium2": ("application/pdf",)}
"""Media types by the packages of the extras that read them."""


def media_types() -> tuple[str, ...]:
    """The types that can be read here; those of extras only if these are installed."""
    found = [types for package, types in _PACKAGES.items() if find_spec(package) is not None]
    return ("image/avif", *(name for types in found for name in types))


def kind_of(encoded: bytes) -> Kind | None:
    """The kind of a file that is opened here; None for all others."""
    if is_heif_or_avif(encoded):
        return "photo"
    return "document" if is_pdf(encoded) else None


def photo_size(encoded: bytes, limits: ServerLimits) -> tuple[int, int]:
    """Width and height that the header states. Raises MediaError, also for too many pixels."""
    size = stated_size(encoded)
    if size is None or 0 in size:
        raise UnsupportedMedia("the image does not state its size: make a JPEG or PNG of it")
    if size[0] * size[1] > limits.max_megapixels * _MEGA:
        raise MediaTooLarge(f"the image has more than {limits.max_megapixels * _MEGA:,} pixels, the limit")
    return size


@contextmanager
def opened_photo(encoded: bytes, limits: ServerLimits, cancellation: Cancellation) -> Iterator[Image]:
    """Decode a photo for a block, upright. Raises MediaError and AnswerCancelled."""
    width, height = photo_size(encoded, limits)
    with _process("photo", encoded, limits, cancellation) as process, DECODING.hold(width * height):
        reply = process.reply()
        yield make_image(process.pixels(reply), reply.notes)


class Document:
    """A PDF file. ``sizes``: width and height of its pages, as regions and marks count pixels."""

    def __init__(self, process: DecoderProcess) -> None:
        self.sizes: Sequence[tuple[int, int]] = process.reply().sizes
        self._process = process

    def choose(self, pages: str | None, max_pages: int) -> list[int]:
        """The numbers of pages, given as "1-3,7"; None are all. Raises OptionError and MediaNotFound."""
        return choose_pages(None if pages is None else parse_pages(pages), len(self.sizes), NAME, max_pages)

    @contextmanager
    def page(self, number: int, shown: tuple[int, int], label: str = "") -> Iterator[ResizedImage]:
        """Draw a page for a block, in width and height ``shown``. Raises MediaError and AnswerCancelled."""
        with DECODING.hold(shown[0] * shown[1]):
            image = make_image(self._process.draw(Drawing(number, *shown)))
            yield ResizedImage(image.rgb, image.sha256, label=label, original_size=self.sizes[number - 1])


@contextmanager
def opened_document(encoded: bytes, limits: ServerLimits, cancellation: Cancellation) -> Iterator[Document]:
    """Open a PDF file for a block. Raises MediaError and AnswerCancelled."""
    with _process("document", encoded, limits, cancellation) as process:
        yield Document(process)


@contextmanager
def opened_page(
    encoded: bytes, page: str | None, side: int | None, limits: ServerLimits, cancellation: Cancellation
) -> Iterator[ResizedImage]:
    """Draw one page for a block; None is the only one. ``side``: its longest side at most; None for its own size.

    Raises as ``opened_document`` and ``Document.choose``.
    """
    with opened_document(encoded, limits, cancellation) as document:
        (number,) = document.choose(page, 1)
        width, height = document.sizes[number - 1]
        scale = 1.0 if side is None else min(1.0, side / max(width, height))
        with document.page(number, (max(1, round(width * scale)), max(1, round(height * scale)))) as drawn:
            yield drawn


@contextmanager
def _process(kind: Kind, encoded: bytes, limits: ServerLimits, cancellation: Cancellation) -> Iterator[DecoderProcess]:
    opening = Opening(kind, len(encoded), limits.max_megapixels * _MEGA, limits.max_pages)
    with decoding(opening, encoded, cancellation) as process:
        yield process
