"""Opens the images and videos of a command: files or stdin, images cropped and enhanced if requested."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from vlrun.cli.arguments import CLIPBOARD, is_file
from vlrun.cli.option_groups import OptionTable, option_group
from vlrun.cli.progress_line import ProgressLine, timed
from vlrun.cli.terminal import print_note, silent_libraries
from vlrun.cli.video_options import VIDEO_OPTIONS, VideoOptions
from vlrun.errors import DamagedMedia, MediaTooLarge, OptionError

if TYPE_CHECKING:
    from vlrun.media.clip import Clip
    from vlrun.media.image import Image
    from vlrun.media.pending_image import Pending, PendingMedia
    from vlrun.media.region import Region
    from vlrun.media.video import PendingClip, Progress

    OpenClip: TypeAlias = Callable[[PendingClip, Progress], Clip]

R = TypeVar("R")

IMAGE_OPTIONS: OptionTable = {
    "region": {"metavar": "X,Y,W,H", "help": "Use only this region: pixels, or thousandths with /1000 at the end."},
    "clipboard": {"is_flag": True, "help": "Ask about the image in the clipboard."},
    "pages": {"metavar": "1-3,7", "help": "Use only these pages of PDF files."},
    "enhance": {"is_flag": True, "help": "Straighten, brighten and sharpen where needed."},
}


@dataclass(frozen=True)
class ImageOptions:
    """The values of ``IMAGE_OPTIONS``."""

    region: Region | None = None
    enhance: bool = False
    pages: str | None = None
    clipboard: bool = False
    video: VideoOptions = field(default_factory=VideoOptions)

    @classmethod
    def parse(
        cls, region: str | None = None, enhance: bool = False, pages: str | None = None, clipboard: bool = False
    ) -> ImageOptions:
        """Return the options. Raises OptionError for a region or pages that are none."""
        from vlrun.media.page_ranges import parse_pages
        from vlrun.media.region import parse_region

        if pages is not None:
            parse_pages(pages)
        return cls(None if region is None else parse_region(region), enhance, pages, clipboard)

    def apply(self, image: Image) -> Image:
        """Crop and enhance an image. Raises OptionError for a region outside of it."""
        from vlrun.media.enhance import enhance
        from vlrun.media.region import crop

        image = crop(image, _region_in(image, self.region)) if self.region else image
        return enhance(image) if self.enhance else image


def _region_in(image: Image, region: Region) -> Region:
    """Return a region of the file as one of the image, which may have been decoded at a fraction of its size."""
    width, height = image.to_original.size
    if region.thousandths or image.size == (width, height):
        return region
    x, wide = (min(1000 * number / width, 1000) for number in (region.x, region.width))
    y, high = (min(1000 * number / height, 1000) for number in (region.y, region.height))
    return replace(region, x=x, y=y, width=wide, height=high, thousandths=True)


def with_image_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options of images and videos to a command, which it gets as one argument."""

    @functools.wraps(command)
    def gather(image_options: ImageOptions, video_options: VideoOptions, **given: Any) -> R:
        return command(image_options=replace(image_options, video=video_options), **given)

    with_videos = option_group("video_options", VIDEO_OPTIONS, VideoOptions)(gather)
    return option_group("image_options", IMAGE_OPTIONS, ImageOptions.parse)(with_videos)


@dataclass(frozen=True)
class LoadedImage:
    """An image or video as passed to the model, and an image as given, unless nothing needs that."""

    image: Image | Clip
    original: Image | None = None


def read_image_headers(names: Sequence[str], options: ImageOptions | None = None) -> list[PendingMedia]:
    """Read the headers of all images, of the pages of PDF files, and of videos, before one is decoded.

    Raises:
        VlrunError: MediaError or OptionError.
    """
    from vlrun.media.pending_image import read_headers

    options = options or ImageOptions()
    with silent_libraries():
        sources = [options.video.apply(_source(name)) for name in names]
        options.video.check_used(sources)
        return read_headers(sources, options.pages)


def load_images(
    pending: Sequence[PendingMedia],
    options: ImageOptions,
    line: ProgressLine,
    reduce: Callable[[Image], Image] = lambda image: image,
    *,
    keep_original: bool = False,
    shown: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
    open_clip: OpenClip | None = None,
) -> list[LoadedImage]:
    """Decode images and videos one after another, and print their notes to stderr. Raises MediaError and OptionError.

    Args:
        pending: The images and videos.
        options: How to crop and enhance them.
        line: Shows what is done.
        reduce: Returns an image with what is needed of it. All else is dropped before the next image is decoded.
        keep_original: Keep the images as they were given, too.
        shown: Returns width and height of what is needed of an image, if it is needed as it was given.
        open_clip: Opens a video for the model, and tells how many of its frames are decoded.
    """
    from vlrun.media.video import PendingClip

    loaded = []
    for number, one in enumerate(pending, 1):
        if isinstance(one, PendingClip):
            clip = _open_clip(one, options, line, open_clip)
            loaded.append(LoadedImage(clip))
            _print_notes(clip.notes, line)
            continue
        label = f"opening image {number} of {len(pending)}" if len(pending) > 1 else "opening the image"
        line.show(timed(label, None, time.monotonic()))
        with silent_libraries(), cast("Pending", one).opened(shown(one.size) if shown else None) as original:
            pass
        image = options.apply(original)
        _print_notes(image.notes, line)
        loaded.append(LoadedImage(reduce(image), original if keep_original else None))
        del image, original
    return loaded


def _open_clip(pending: PendingClip, options: ImageOptions, line: ProgressLine, open_clip: OpenClip | None) -> Clip:
    """Open a video, and show how many of its frames are decoded."""
    from vlrun.media.video import open_pending

    if options.region is not None or options.enhance:
        raise OptionError(f"--region and --enhance are for images, and {pending.name} is a video")
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        line.show(timed(f"reading frame {done} of {total}", None, began))

    line.show(timed("opening the video", None, began))
    return open_pending(pending, show) if open_clip is None else open_clip(pending, show)


def _print_notes(notes: Iterable[str], line: ProgressLine) -> None:
    with line.paused():
        for note in notes:
            print_note(note)


def image_parts(image: Image | Clip) -> int:
    """Return how many images the vision encoder makes of it: one for each pair of frames of a video."""
    from vlrun.media.clip import Clip

    return len(image.pairs) if isinstance(image, Clip) else 1


def as_image(loaded: LoadedImage) -> Image:
    """Return what was loaded as an image. Raises OptionError for a video."""
    from vlrun.media.image import Image

    if not isinstance(loaded.image, Image):
        raise OptionError("this is for images, not for videos")
    return loaded.image


def without_image_notes(notes: Iterable[str], images: Sequence[LoadedImage]) -> tuple[str, ...]:
    """Return the notes that ``load_images`` did not print."""
    printed = image_notes(images)
    return tuple(note for note in notes if note not in printed)


def image_notes(images: Sequence[LoadedImage]) -> frozenset[str]:
    """Return the notes that ``load_images`` printed."""
    return frozenset(note for one in images for note in one.image.notes)


def _source(name: str) -> str | bytes:
    """Return the name of a file, or the bytes of what is none."""
    from vlrun.media.image import MAX_FILE_BYTES

    if is_file(name):
        return name
    if name == "-":
        return _read_stdin(MAX_FILE_BYTES)
    if name == CLIPBOARD:
        from vlrun.cli.clipboard import read_clipboard

        return read_clipboard(MAX_FILE_BYTES)
    from vlrun.cli.image_url import Fetcher

    return Fetcher(MAX_FILE_BYTES).fetch(name)


def _read_stdin(max_bytes: int) -> bytes:
    from vlrun.media.foreign_formats import VIDEO_BYTES, is_video
    from vlrun.media.video_file import DEFAULT_VIDEO_LIMITS

    if sys.stdin is None or sys.stdin.isatty():
        raise OptionError("- reads an image from stdin, but stdin is closed or a terminal")
    encoded = sys.stdin.buffer.read(max_bytes + 1)
    if len(encoded) > max_bytes and is_video(encoded[:VIDEO_BYTES]):
        max_bytes = DEFAULT_VIDEO_LIMITS.max_memory_bytes
        encoded += sys.stdin.buffer.read(max_bytes + 1 - len(encoded))
    if len(encoded) > max_bytes:
        raise MediaTooLarge(f"the image on stdin has more than {max_bytes:,} bytes, the limit")
    if not encoded:
        raise DamagedMedia("the image on stdin is empty")
    return encoded
