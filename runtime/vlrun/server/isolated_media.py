"""Files of formats with large decoders, opened in a process of their own: HEIC and AVIF photos, PDF files, videos.

Nothing of them but sizes in headers is parsed in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

from vlrun.engine.request import Cancellation
from vlrun.errors import MediaTooLarge, OptionError, UnsupportedMedia
from vlrun.media.clip import Clip, make_clip
from vlrun.media.foreign_formats import VIDEO_BYTES, is_heif_or_avif, is_pdf, is_video
from vlrun.media.frame_sampling import frame_window
from vlrun.media.heif import stated_size
from vlrun.media.image import DECODING, Image, ResizedImage, make_image
from vlrun.media.page_ranges import choose_pages, parse_pages
from vlrun.media.video import PendingClip, Progress, Video
from vlrun.media.video_file import VideoInfo
from vlrun.server.decoder import NAME, Comparing, Drawing, Kind, Opening, Pixels, Sampling
from vlrun.server.decoder_process import DecoderProcess, decoding
from vlrun.server.limits import ServerLimits
from vlrun.types.video_rules import VideoRules

MAX_FPS = 120
"""Of a video that is as long as it may be; a shorter one may have more."""
_MEGA = 1_000_000
_PACKAGES = {
    "pi_heif": ("image/heic", "image/heif"),
    "pypdfium2": ("application/pdf",),
    "av": ("video/mp4", "video/quicktime", "video/webm", "video/x-matroska"),
}
"""Media types by the packages of the extras that read them."""


def media_types() -> tuple[str, ...]:
    """The types that can be read here; those of extras only if these are installed."""
    found = [types for package, types in _PACKAGES.items() if find_spec(package) is not None]
    return ("image/avif", *(name for types in found for name in types))


def kind_of(encoded: bytes) -> Kind | None:
    """The kind of a file that is opened here; None for all others."""
    if is_heif_or_avif(encoded):
        return "photo"
    if is_pdf(encoded):
        return "document"
    return "video" if is_video(encoded[:VIDEO_BYTES]) else None


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


class TooManyPages(OptionError):
    """More pages are chosen than a request can have."""


class Document:
    """A PDF file. ``sizes``: width and height of its pages, as regions and marks count pixels."""

    def __init__(self, process: DecoderProcess) -> None:
        self.sizes: Sequence[tuple[int, int]] = process.reply().sizes
        self._process = process

    def choose(self, pages: str | None, max_pages: int) -> list[int]:
        """The numbers of pages, given as "1-3,7"; None are all. Raises TooManyPages and MediaNotFound."""
        ranges = None if pages is None else parse_pages(pages)
        try:
            return choose_pages(ranges, len(self.sizes), NAME, max_pages)
        except OptionError as error:
            raise TooManyPages(error.message) from None

    @contextmanager
    def page(self, number: int, shown: tuple[int, int], label: str = "") -> Iterator[ResizedImage]:
        """Draw a page for a block, in width and height ``shown``. Raises MediaError and AnswerCancelled."""
        with DECODING.hold(shown[0] * shown[1]):
            self._process.ask(Drawing(number, *shown))
            image = make_image(self._process.pixels(self._process.reply()))
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


class IsolatedClip(PendingClip):
    """A video whose frames another process decodes. ``video``: what is wanted of it."""

    def __init__(self, process: DecoderProcess, video: Video) -> None:
        found = process.reply()
        self.video = video
        self.label = ""
        self.name = NAME
        self.size = found.sizes[0]
        self.info = VideoInfo(*self.size, found.fps, found.frames)
        self._notes = found.notes
        self._window = frame_window(found.frames, found.fps, video.start, video.end, NAME)
        self._process = process

    def changed(self, rules: VideoRules, limit: int, progress: Progress | None = None) -> list[int]:  # noqa: ARG002
        """Return the numbers of the frames in which something changed. Raises MediaError and AnswerCancelled."""
        candidates = self.sampled(replace(rules, max_frames=self.info.frames), all_of_them=True)
        self._process.ask(Comparing(tuple(candidates), limit))
        return [round(seconds * self.info.fps) for seconds in self._process.reply().times]

    def open(
        self,
        indices: Sequence[int],
        shown: tuple[int, int],
        notes: tuple[str, ...] = (),
        progress: Progress | None = None,  # noqa: ARG002
        *,
        fixed: bool = False,
    ) -> Clip:
        """Decode frames. Raises MediaError and AnswerCancelled."""
        self._process.ask(Sampling(tuple(indices), *shown))
        frames = (self._frame() for _ in indices)
        return make_clip(frames, self.size, (*self._notes, *self.window_notes, *notes), self.label, fixed=fixed)

    def _frame(self) -> tuple[float, Pixels]:
        reply = self._process.reply()
        return sum(reply.times), self._process.pixels(reply)


@contextmanager
def opened_video(
    encoded: bytes, video: Video, limits: ServerLimits, cancellation: Cancellation
) -> Iterator[IsolatedClip]:
    """Open a video for a block. Raises MediaError and AnswerCancelled."""
    with _process("video", encoded, limits, cancellation) as process:
        yield IsolatedClip(process, video)


@contextmanager
def _process(kind: Kind, encoded: bytes, limits: ServerLimits, cancellation: Cancellation) -> Iterator[DecoderProcess]:
    pixels = limits.max_frame_pixels if kind == "video" else limits.max_megapixels * _MEGA
    seconds = limits.max_video_seconds
    opening = Opening(kind, len(encoded), pixels, limits.max_pages, seconds, seconds * MAX_FPS)
    with decoding(opening, encoded, cancellation) as process:
        yield process
