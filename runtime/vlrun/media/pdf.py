"""Draws the pages of PDF files with PDFium, which is imported for the first one only.

PDFium runs in this process, one call at a time: it is not thread-safe. The size of a page is known before it is drawn,
and drawing ends at a limit of processor time. Reading a page cannot be ended, so PDFium runs in threads of its own:
Ctrl+C and a limit end the wait for them.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from vlrun.errors import DamagedMedia, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.image import DECODING, Image, ResizedImage, make_image
from vlrun.media.page_ranges import choose_pages

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

EXTRA = "pdf"
DPI = 200
"""Pixels per inch of a page, as far as the limits below allow: small print is sharp, and A4 has 3.9 megapixels."""
MAX_PAGE_PIXELS = 2**24
"""Of one page, however large its paper is: what the largest number of visual tokens can show."""
MAX_SECONDS = 10.0
"""Processor time to draw one page."""
MAX_WAIT_SECONDS = 60.0
"""Time to read the sizes of pages, or to read and draw one. A million shapes take two seconds."""
_POINTS = 72
"""Units of a page per inch."""
_PDFIUM = threading.Lock()

T = TypeVar("T")


@dataclass(frozen=True)
class PendingPage:
    """A page that is not drawn yet.

    Attributes:
        size: Width and height of the image: at ``DPI``, or less for large paper.
        label: What the prompt calls it.
    """

    encoded: bytes
    name: str
    number: int
    size: tuple[int, int]
    label: str

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.size[0] * self.size[1]

    @contextmanager
    def opened(self, shown: tuple[int, int] | None = None) -> Iterator[Image]:
        """Draw the page for a block, as ``opened_image`` opens an image. Raises MediaError.

        Args:
            shown: Width and height that the model sees, in which the page is drawn.
        """
        width, height = shown or self.size
        name = f"page {self.number} of {self.name}"

        def drawn(abandoned: threading.Event) -> npt.NDArray[np.uint8]:
            with _open(self.encoded, self.name) as document:
                return _draw(document, self.number, width, height, name, abandoned)

        with DECODING.hold(width * height):
            image = make_image(_in_thread(drawn, name))
            yield ResizedImage(image.rgb, image.sha256, label=self.label, original_size=self.size)


def read_pages(encoded: bytes, name: str, pages: tuple[range, ...] | None = None) -> list[PendingPage]:
    """Return pages of a PDF that are not drawn yet.

    Args:
        encoded: The file.
        name: Its name in messages.
        pages: The numbers of the pages; None for all.

    Raises:
        MediaError: The file cannot be used, or has no such page.
        OptionError: There are more pages than a question can have.
    """

    def pending(_: threading.Event) -> list[PendingPage]:
        with _open(encoded, name) as document:
            numbers = choose_pages(pages, len(document), name)
            return [PendingPage(encoded, name, n, _size(document, n, name), f"Page {n}") for n in numbers]

    return _in_thread(pending, name)


def page_sizes(encoded: bytes, name: str, max_pages: int) -> list[tuple[int, int]]:
    """Return width and height in pixels of all pages of a PDF. Raises MediaError, also for more than ``max_pages``."""

    def sizes(_: threading.Event) -> list[tuple[int, int]]:
        with _open(encoded, name) as document:
            if len(document) > max_pages:
                raise MediaTooLarge(f"{name} has {len(document):,} pages; the limit is {max_pages:,}")
            return [_size(document, number, name) for number in range(1, len(document) + 1)]

    return _in_thread(sizes, name)


def _in_thread(work: Callable[[threading.Event], T], name: str) -> T:
    """Call PDFium in a thread, and raise MediaTooLarge after ``MAX_WAIT_SECONDS``.

    The thread may go on then, and later calls wait until it has ended. ``work`` gets an event that tells it to end.
    """
    running, abandoned = threading.Event(), threading.Event()
    done: Future[T] = Future()

    def run() -> None:
        with _PDFIUM:
            if abandoned.is_set():
                return
            running.set()
            try:
                done.set_result(work(abandoned))
            except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
                done.set_exception(error)

    threading.Thread(target=run, name="vlrun-pdf", daemon=True).start()
    try:
        running.wait()
        if not wait([done], MAX_WAIT_SECONDS).done:
            raise MediaTooLarge(f"{name} takes more than {MAX_WAIT_SECONDS:g} s to read, the limit")
    finally:
        abandoned.set()
        if running.is_set() and not done.done():
            atexit.register(_wait_for_pdfium)
    return done.result()


def _wait_for_pdfium() -> None:
    """Wait until no thread uses PDFium: pypdfium2 frees the library when the interpreter ends."""
    with _PDFIUM:
        pass


@contextmanager
def _open(encoded: bytes, name: str) -> Iterator[PdfDocument]:
    """Open a document. Raises MissingExtra, UnsupportedMedia and DamagedMedia."""
    try:
        import pypdfium2
        import pypdfium2.raw as pdfium
    except ImportError:
        raise MissingExtra(f"{name} is a PDF file, which needs another package", EXTRA) from None
    handle = pdfium.FPDF_LoadMemDocument64(encoded, len(encoded), None)
    if not handle:
        if pdfium.FPDF_GetLastError() in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise UnsupportedMedia(f"{name} is encrypted: save it without a password first")
        raise DamagedMedia(f"{name} is damaged or cut short")
    with closing(pypdfium2.PdfDocument(handle)) as document:
        if not len(document):
            raise DamagedMedia(f"{name} has no pages")
        try:
            yield document
        except pypdfium2.PdfiumError:
            raise DamagedMedia(f"{name} is damaged or cut short") from None


def _size(document: PdfDocument, number: int, name: str) -> tuple[int, int]:
    """Return width and height in pixels, from the header of a page."""
    width, height = document.get_page_size(number - 1)
    if not (math.isfinite(width * height) and width > 0 and height > 0):
        raise DamagedMedia(f"page {number} of {name} has no size")
    scale = min(DPI / _POINTS, math.sqrt(MAX_PAGE_PIXELS / (width * height)))
    wide, high = max(math.floor(width * scale), 1), max(math.floor(height * scale), 1)
    return min(wide, MAX_PAGE_PIXELS // high), min(high, MAX_PAGE_PIXELS // wide or 1)


def _draw(
    document: PdfDocument, number: int, width: int, height: int, name: str, abandoned: threading.Event
) -> npt.NDArray[np.uint8]:
    """Draw a page with its annotations and filled-in forms on white. Raises MediaTooLarge after ``MAX_SECONDS``."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    document.init_forms()
    with closing(document[number - 1]) as page:
        bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
        with closing(bitmap):
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
            place = (bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER)
            _draw_within_limit(page, place, name, abandoned)
            if document.formenv is not None:
                pdfium.FPDF_FFLDraw(document.formenv, *place)
            return np.array(bitmap.to_numpy()[..., :3])


def _draw_within_limit(page: PdfPage, place: tuple[Any, ...], name: str, abandoned: threading.Event) -> None:
    """Draw the content of a page. PDFium asks now and then whether it should pause."""
    import pypdfium2.raw as pdfium

    end = time.thread_time() + MAX_SECONDS
    stopped = False

    def must_pause(_: object) -> int:
        nonlocal stopped
        stopped = stopped or time.thread_time() > end or abandoned.is_set()
        return stopped

    pause = pdfium.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(must_pause)
    try:
        status = pdfium.FPDF_RenderPageBitmap_Start(*place, ctypes.byref(pause))
    finally:
        pdfium.FPDF_RenderPage_Close(page)
    if stopped:
        raise MediaTooLarge(f"{name} takes more than {MAX_SECONDS:g} s to draw, the limit")
    if status == pdfium.FPDF_RENDER_FAILED:
        raise DamagedMedia(f"{name} cannot be drawn: it is damaged")
