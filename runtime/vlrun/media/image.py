"""Reads images from files, bytes or memory as upright RGB, within limits.

The pixel limit is checked in the header, before pixels are decoded. ``ImageLimits`` can be lower for untrusted input.
Thread-safe.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from vlrun.errors import DamagedMedia, MediaNotFound, MediaTooLarge, OptionError, UnsupportedMedia
from vlrun.media.decoding import READ_BYTES, EncodedFile, PixelBudget
from vlrun.media.foreign_formats import VIDEO_BYTES, foreign_format, is_heif, is_pdf, is_video
from vlrun.media.gif_blocks import GIF_MAGIC, gif_size
from vlrun.media.heif import open_heif
from vlrun.media.jpeg_draft import is_progressive, max_pixels_of, reduce
from vlrun.media.jpeg_end import check_complete, lacks_end, with_end
from vlrun.media.sources import read_source
from vlrun.media.strict_checks import check_cost, check_exif, check_segments
from vlrun.media.tiff_planes import correct_planes
from vlrun.media.transform import ImageTransform, Matrix
from vlrun.types.arguments import check_fields, instance, optional, text, tuple_of

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "HEIF")
"""Supported formats by Pillow's names. JPEG includes MPO, which many phones write as .jpg; HEIF are HEIC photos."""

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 89_478_485
"""Width x height: Pillow's warning limit (256 MiB of RGB), above the photos of phones."""

DECODING = PixelBudget(MAX_PIXELS)
"""Shared by all threads: decoding takes up to 20 bytes a pixel, which the pixels of an image leave 3 of."""
os.register_at_fork(after_in_child=DECODING.forget)
_BAND_PIXELS = 2**15
"""Pixels converted at once. The C library takes 128 KiB from memory that it has; more comes from the system each time,
which takes longer than the conversion.
"""

# fmt: off
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
    Warning, RuntimeError,
)
# fmt: on
"""What Pillow's decoders and libheif raise on damaged files, found by fuzzing and with the test images of Pillow and
pillow-heif. Warnings are included for processes that turn them into errors.
"""

# Pillow warns about odd metadata, which does not help users, and about decompression bombs, which the pixel limit
# refuses. The filter is set once, because `warnings.catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

PILImage.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]
"""Of pixels in memory. The C library returns blocks above 32 MiB to the system; of Pillow's usual 16 MiB, each thread
that had decoded an image of 50 megapixels kept 400 MB.
"""

_HEADER_BYTES = 512
"""Have the brands of a HEIF file."""
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262


@dataclass(frozen=True)
class ImageLimits:
    """Limits for images to open.

    Attributes:
        formats: Accepted formats by Pillow's names.
        max_bytes: Maximum size of the encoded file.
        max_pixels: Maximum width x height; at most ``MAX_PIXELS``.
        reduces: Decode a JPEG with more pixels, up to the limits of ``jpeg_draft``, at a fraction of its size.
        strict: For untrusted input: also refuse files with more than ``MAX_SEGMENTS`` segments, wrong PNG checksums or
            damaged EXIF data.
    """

    formats: tuple[str, ...] = FORMATS
    max_bytes: int = MAX_FILE_BYTES
    max_pixels: int = MAX_PIXELS
    reduces: bool = True
    strict: bool = False

    @property
    def pixel_limit(self) -> int:
        """The lower of ``max_pixels`` and ``MAX_PIXELS``."""
        return min(self.max_pixels, MAX_PIXELS)


DEFAULT_LIMITS = ImageLimits()
"""For the user's own files."""


@dataclass(frozen=True)
class Image:
    """An upright image.

    Attributes:
        rgb: Pixels ``[height, width, 3]``, uint8.
        sha256: Hash of shape and pixels.
        notes: Messages for the user about omissions and changes.
        transform: Maps its pixels to the original image, if it was derived from one.
        label: What the prompt calls it, such as "Page 3"; empty to number it if there are several images.
    """

    rgb: npt.NDArray[np.uint8]
    sha256: str
    notes: tuple[str, ...] = ()
    transform: ImageTransform | None = None
    label: str = ""

    def __post_init__(self) -> None:
        rgb: object = self.rgb
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise OptionError(
                "rgb must be an array [height, width, 3] uint8; vlrun.open_image makes an image of a file"
            )
        notes = tuple_of(text, "texts")
        transform = optional(instance(ImageTransform))
        check_fields(self, {"sha256": text, "notes": notes, "transform": transform, "label": text})

    @property
    def to_original(self) -> ImageTransform:
        """The map of its pixels to the original image; the identity if it is the original."""
        return self.transform or ImageTransform(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]


@dataclass(frozen=True)
class ResizedImage(Image):
    """An image of which only the pixels are kept that the model sees: ``rgb`` is resized, all else is the original's.

    Attributes:
        original_size: Width and height of the image.
    """

    original_size: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the original."""
        return self.original_size


ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | IO[bytes] | PILImage.Image | npt.NDArray[np.uint8] | Image
)


def open_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Open an image. Large images of other threads are decoded first: see ``DECODING``.

    Args:
        source: A path, a file URL of this machine, the bytes of an encoded file, a file opened in binary mode, a Pillow
            image, or an RGB array ``[height, width, 3]`` uint8.
        limits: For Pillow images and arrays only ``max_pixels`` applies.

    Raises:
        MediaError: MediaNotFound, UnsupportedMedia, DamagedMedia or MediaTooLarge; the message names the source.
    """
    with opened_image(source, limits) as image:
        return image


@contextmanager
def opened_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> Iterator[Image]:
    """Open an image for a block that needs its pixels only so long: they count as being decoded until it ends.

    The block must open no other image. Raises as ``open_image``.
    """
    instance(ImageLimits)("limits", limits)
    if isinstance(source, Image):
        yield source
    elif isinstance(source, np.ndarray):
        yield _from_array(source, limits)
    elif isinstance(source, PILImage.Image):
        check_pixels(source.size, "the image", limits)
        with DECODING.hold(source.width * source.height):
            with _media_errors("the image", limits):
                image = _from_pillow(source, "the image", limits)
            yield image
    else:
        encoded, name = read_source(source, limits.max_bytes)
        with ExitStack() as held:
            with _open_encoded(encoded, name, limits) as pil_image:
                size = pil_image.size
                reduction = reduce(pil_image, limits.pixel_limit)
                held.enter_context(DECODING.hold(math.prod(size if is_progressive(pil_image) else pil_image.size)))
                image = _from_pillow(pil_image, name, limits)
                if lacks_end(encoded):
                    with _media_errors(name, limits):
                        check_complete(encoded, pil_image, name, reduction)
                if reduction > 1:
                    image = _reduced(image, size if image.size == pil_image.size else size[::-1], reduction, name)
            yield image


def image_size(encoded: bytes, limits: ImageLimits = DEFAULT_LIMITS, name: str = "the image") -> tuple[int, int]:
    """Return width and height from the header of an encoded file, before rotation. Raises as ``open_image``."""
    with _open_encoded(encoded, name, limits) as pil_image:
        return pil_image.size


def derive_image(image: Image, rgb: npt.NDArray[np.uint8], matrix: Matrix, notes: tuple[str, ...] = ()) -> Image:
    """Return an image derived from another one. ``matrix`` maps its pixels to those of ``image``."""
    transform = image.to_original.compose(matrix)
    return replace(make_image(rgb, (*image.notes, *notes)), transform=transform, label=image.label)


@contextmanager
def _open_encoded(encoded: bytes, name: str, limits: ImageLimits) -> Iterator[PILImage.Image]:
    """Open an image and check its header against the limits, without decoding pixels."""
    if not encoded:
        raise DamagedMedia(f"{name} is empty")
    if len(encoded) > limits.max_bytes:
        raise MediaTooLarge(f"{name} has more than {limits.max_bytes:,} bytes, the limit")
    if kind := foreign_format(encoded):
        raise UnsupportedMedia(f"{name} is {kind}, which vlrun cannot read: make a JPEG or PNG of it")
    if is_pdf(encoded):
        raise UnsupportedMedia(f"{name} is a PDF file, not an image; vlrun.open_pages makes images of it")
    if is_video(encoded[:VIDEO_BYTES]):
        raise UnsupportedMedia(f"{name} is a video, not an image; vlrun.open_video opens it")
    with _media_errors(name, limits):
        if limits.strict:
            check_segments(encoded, name)
        check_cost(encoded, name)
        if encoded.startswith(GIF_MAGIC) and math.prod(gif_size(encoded)) > limits.pixel_limit:
            raise _too_many_pixels(name, limits)  # Pillow may fill them while it reads the header
        with _open_header(EncodedFile(with_end(encoded), name), name, limits) as pil_image:
            limit = limits.pixel_limit
            if math.prod(pil_image.size) > (max_pixels_of(pil_image, limit) if limits.reduces else limit):
                raise _too_many_pixels(name, limits)
            yield pil_image


def _open_header(file: EncodedFile, name: str, limits: ImageLimits) -> PILImage.Image:
    """Read a header. Pillow has no HEIF of its own."""
    if "HEIF" in limits.formats and is_heif(file.getvalue()[:_HEADER_BYTES]):
        return open_heif(file, name)
    return PILImage.open(file, formats=[known for known in limits.formats if known != "HEIF"])


def _reduced(image: Image, size: tuple[int, int], reduction: int, name: str) -> Image:
    """Return an image that was decoded at a fraction of ``size``, with what maps its pixels to the file's."""
    width, height = image.size
    note = (
        f"{name} has {math.prod(size) // 1_000_000} megapixels, and is decoded at 1/{reduction} of its width and height"
    )
    matrix: Matrix = (size[0] / width, 0.0, 0.0, 0.0, size[1] / height, 0.0)
    return replace(image, notes=(*image.notes, note), transform=ImageTransform(size, matrix))


@contextmanager
def _media_errors(name: str, limits: ImageLimits) -> Iterator[None]:
    """Convert errors of Pillow's decoders to MediaErrors."""
    try:
        yield
    except UnidentifiedImageError:
        raise UnsupportedMedia(
            f"{name} is not an image that vlrun can read ({', '.join(limits.formats)}), or its header is damaged"
        ) from None
    except (PILImage.DecompressionBombWarning, PILImage.DecompressionBombError):
        raise _too_many_pixels(name, limits) from None
    except MemoryError:
        raise MediaTooLarge(f"{name} does not fit into memory") from None
    except _DECODER_ERRORS as error:
        if "closed" in str(error):  # by the caller, before Pillow has read the pixels
            raise MediaNotFound(f"{name} is closed: open it again, or pass its path") from error
        raise DamagedMedia(f"{name} is damaged or cut short") from error


def _too_many_pixels(name: str, limits: ImageLimits) -> MediaTooLarge:
    return MediaTooLarge(f"{name} has more than {limits.pixel_limit:,} pixels, the limit")


def check_pixels(size: tuple[int, int], name: str, limits: ImageLimits) -> None:
    """Raise DamagedMedia for an image without pixels, and MediaTooLarge for one with too many."""
    if 0 in size:
        raise DamagedMedia(f"{name} has no pixels")
    if size[0] * size[1] > limits.pixel_limit:
        raise MediaTooLarge(f"{name} has {size[0] * size[1]:,} pixels; the limit is {limits.pixel_limit:,}")


def _from_pillow(pil_image: PILImage.Image, name: str, limits: ImageLimits) -> Image:
    if 0 in pil_image.size:
        raise DamagedMedia(f"{name} has no pixels")
    _drop_16_bit_transparency(pil_image)
    notes = []
    if getattr(pil_image, "is_animated", False) and pil_image.format == "HEIF":
        notes.append(f"{name} has several images; only the main one is used")
    elif getattr(pil_image, "is_animated", False) and pil_image.format != "MPO":  # whose frames show the same scene
        notes.append(f"{name} has several frames; only the first is used")
        pil_image.seek(0)
    if isinstance(pil_image, TiffImagePlugin.TiffImageFile):
        correct_planes(pil_image, name)
    if isinstance(pil_image, ImageFile.ImageFile):
        pil_image.decodermaxblock = READ_BYTES
    if math.prod(pil_image.size) > limits.pixel_limit:  # a JPEG that cannot be reduced
        raise _too_many_pixels(name, limits)
    pil_image.load()
    if pil_image.mode in ("P", "PA") and pil_image.palette is None:
        raise DamagedMedia(f"{name} has no palette")
    white_is_zero = getattr(pil_image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    if pil_image.mode.startswith("I;16") and white_is_zero:
        pil_image = PILImage.fromarray(65535 - np.asarray(pil_image))
    if limits.strict:
        check_exif(pil_image.info.get("exif") or b"", name)  # pi-heif: None without
    upright = ImageOps.exif_transpose(pil_image) if pil_image.getexif().get(_EXIF_ORIENTATION, 1) != 1 else pil_image
    return make_image(_rgb_of(upright, name), tuple(notes))


def _rgb_of(pil_image: PILImage.Image, name: str) -> npt.NDArray[np.uint8]:
    """Return the pixels as ``[height, width, 3]``, converted band by band: a conversion of the whole image would take
    up to 20 bytes a pixel.
    """
    rows = max(_BAND_PIXELS // pil_image.width, 1)
    rgb = np.empty((pil_image.height, pil_image.width, 3), np.uint8)
    for top in range(0, pil_image.height, rows):
        bottom = min(top + rows, pil_image.height)
        rgb[top:bottom] = np.asarray(_to_rgb(pil_image.crop((0, top, pil_image.width, bottom)), name))
    return rgb


def _drop_16_bit_transparency(pil_image: PILImage.Image) -> None:
    """Ignore the transparent colour of a PNG with 16 bits per channel: Pillow reduces only the pixels to 8 bits."""
    if isinstance(pil_image, ImageFile.ImageFile) and [tile.args for tile in pil_image.tile] == ["RGB;16B"]:
        pil_image.info.pop("transparency", None)


def _to_rgb(pil_image: PILImage.Image, name: str) -> PILImage.Image:
    """Convert to 8-bit RGB: 16-bit grey is scaled (Pillow would clip it), transparency becomes white."""
    if pil_image.mode.startswith("I"):
        return _from_16_bit_grey(pil_image, name)
    if pil_image.mode == "F":
        raise UnsupportedMedia(f"{name} has floating-point pixels; save it with 8 or 16 bits first")
    if pil_image.has_transparency_data:
        rgba = pil_image.convert("RGBA")
        white = PILImage.new("RGBA", rgba.size, "white")
        return PILImage.alpha_composite(white, rgba).convert("RGB")
    return pil_image if pil_image.mode == "RGB" else pil_image.convert("RGB")


def _from_16_bit_grey(pil_image: PILImage.Image, name: str) -> PILImage.Image:
    grey = np.asarray(pil_image)
    if grey.size and (grey.min() < 0 or grey.max() > 65535):
        raise UnsupportedMedia(f"{name} has pixels with more than 16 bits; save it with 8 or 16 bits first")
    transparent = pil_image.info.get("transparency")  # the transparent grey level of a PNG
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, 65535, grey)
    return PILImage.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_array(rgb: npt.NDArray[np.uint8], limits: ImageLimits) -> Image:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UnsupportedMedia(f"an array must be [height, width, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
    check_pixels((rgb.shape[1], rgb.shape[0]), "the array", limits)
    return make_image(rgb)


def make_image(rgb: npt.NDArray[np.uint8], notes: tuple[str, ...] = ()) -> Image:
    """Return an image of pixels."""
    contiguous = np.ascontiguousarray(rgb)
    digest = hashlib.sha256(repr(contiguous.shape).encode())  # 30x100 and 100x30 must not collide
    digest.update(contiguous.data)
    return Image(rgb=contiguous, sha256=digest.hexdigest(), notes=notes)
