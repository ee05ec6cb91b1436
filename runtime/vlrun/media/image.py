"""An image from a file, from bytes or from memory, as upright RGB within limits.

Knows file formats, orientation, transparency and bit depth; does not know the model, which resizes later. The pixel
limit is checked on the header, before anything is decoded, and only the formats named here are ever opened;
`ImageLimits` narrows them and the limits for untrusted files. May be used from several threads at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from vlrun.errors import DamagedMedia, MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.transform import ImageTransform, Matrix

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""Pillow's names of the formats that vlrun opens. Its JPEG covers MPO, which many phones write as .jpg."""

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 89_478_485
"""Width x height: Pillow's own warning limit (a quarter GiB of RGB), above every phone's normal image."""

MAX_SEGMENTS = 256
"""Segments and scans of a JPEG, or chunks beside its pixels of a PNG, of which those that are inflated count as 16.

Few bytes cost much there: a scan of 100 bytes goes over the whole image again (20 ms for 50 megapixels), a chunk of
1 kB becomes 1 MB (2 ms), and the pieces of EXIF are joined in quadratic time. As a measure, 15 MB of metadata in full
segments are 240, and progressive images have about 10 scans.
"""

_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    Warning,
)
"""What Pillow's decoders raise on broken files, from fuzzing and its own test images; and its warnings, for a process
that has made errors of all warnings.
"""

# Pillow warns of oddities in metadata, which say nothing to our user, and of bombs, which we refuse by their size. Set
# once and for good: `warnings.catch_warnings` around each opening races with other threads and leaves filters behind.
warnings.filterwarnings("ignore", module=r"PIL\.")

_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_INFLATED = (b"iCCP", b"zTXt", b"iTXt")  # each to 1 MB at most, while the header is read
_INFLATED_WEIGHT = 16
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not: a stuffed 255, filling, a restart inside a scan
_JPEG_SKIPPED = 4096
_JPEG_SCAN = 0xDA
_JPEG_END = 0xD9
_JPEG_WITHOUT_LENGTH = (0x01, 0xD8)  # TEM, SOI


@dataclass(frozen=True)
class ImageLimits:
    """What is opened. ``formats``: Pillow's names; ``max_bytes``: of the file; ``max_pixels``: width x height, at most
    ``MAX_PIXELS``; ``animated``: whether the first of several frames or pages is taken, or the file refused.

    ``strict``, for files of strangers: more than ``MAX_SEGMENTS``, a PNG's wrong checksums and EXIF data that cannot be
    read are refused too.
    """

    formats: tuple[str, ...] = FORMATS
    max_bytes: int = MAX_FILE_BYTES
    max_pixels: int = MAX_PIXELS
    animated: bool = True
    strict: bool = False


EVERYTHING = ImageLimits()
"""What a person at this machine may open."""


@dataclass(frozen=True)
class Image:
    """Upright pixels ``rgb [height, width, 3]`` uint8, and a hash of size and pixels that names the content.

    ``notes`` tells what was left out or changed on the way in, in words for the user; ``made_in``: where it lies in the
    image that it was made from.
    """

    rgb: npt.NDArray[np.uint8]
    sha256: str
    notes: tuple[str, ...] = ()
    made_in: ImageTransform | None = None

    @property
    def frame(self) -> ImageTransform:
        """Where it lies in its original; an image that was not made from another is its own."""
        return self.made_in or ImageTransform(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | PILImage.Image | npt.NDArray[np.uint8] | Image


def open_image(source: ImageSource, intake: ImageLimits = EVERYTHING) -> Image:
    """An image from a path, an encoded file's bytes, a Pillow image or an RGB array ``[height, width, 3]`` uint8.

    Of the last two only ``intake.max_pixels`` is asked. Raises MediaNotFound, UnsupportedMedia, DamagedMedia or
    MediaTooLarge, each with one sentence that names the source.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, intake)
    if isinstance(source, PILImage.Image):
        _check_pixels(source.size, "the image", intake)
        with _guarded("the image", intake):
            return _from_image(source, "the image", intake)
    if isinstance(source, bytes | bytearray):
        return _decode(bytes(source), "the image", intake)
    if not isinstance(source, str | os.PathLike):
        raise UnsupportedMedia(f"an image is a path, bytes, a Pillow image or an array, not {type(source).__name__}")
    return _decode(_read(Path(source), intake), f"'{os.fspath(source)}'", intake)


def image_size(encoded: bytes, intake: ImageLimits = EVERYTHING) -> tuple[int, int]:
    """Width and height in pixels as an encoded file's header tells them; nothing is decoded, nor turned upright.

    Raises what `open_image` would raise for its format, bytes, pixels, frames and segments.
    """
    with _opened(encoded, "the image", intake) as pil_image:
        return pil_image.size


def made_from(image: Image, rgb: npt.NDArray[np.uint8], matrix: Matrix, notes: tuple[str, ...] = ()) -> Image:
    """An image made from another, with its notes and further ones. ``matrix`` takes its pixels into the other's."""
    made = _image(rgb, (*image.notes, *notes))
    return replace(made, made_in=image.frame.within(matrix))


def _read(path: Path, intake: ImageLimits) -> bytes:
    if "://" in os.fspath(path) or os.fspath(path).startswith(("http:/", "https:/")):
        raise MediaNotFound(f"'{path}' is an address: vlrun opens files only, so download it first")
    try:
        if path.is_dir():
            raise MediaNotFound(f"'{path}' is a folder, not an image")
        with path.open("rb") as file:
            encoded = file.read(intake.max_bytes + 1)  # a pipe or a device does not tell its size beforehand
    except FileNotFoundError:
        raise MediaNotFound(f"no such image: '{path}'") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise MediaNotFound(f"cannot open '{path}': {reason}") from error
    if len(encoded) > intake.max_bytes:
        raise MediaTooLarge(f"'{path}' has more than {intake.max_bytes:,} bytes, the limit")
    return encoded


def _decode(encoded: bytes, name: str, intake: ImageLimits) -> Image:
    with _opened(encoded, name, intake) as pil_image:
        return _from_image(pil_image, name, intake)


@contextmanager
def _opened(encoded: bytes, name: str, intake: ImageLimits) -> Iterator[PILImage.Image]:
    """The image with its header read, within the intake; its pixels are not decoded yet."""
    if not encoded:
        raise DamagedMedia(f"{name} is empty")
    if len(encoded) > intake.max_bytes:
        raise MediaTooLarge(f"{name} has more than {intake.max_bytes:,} bytes, the limit")
    with _guarded(name, intake):
        if intake.strict:
            _check_segments(encoded, name)
        with PILImage.open(io.BytesIO(encoded), formats=intake.formats) as pil_image:
            if pil_image.width * pil_image.height > _most_pixels(intake):
                raise _too_many_pixels(name, intake)
            if not intake.animated and _frames(pil_image) > 1:
                raise UnsupportedMedia(f"{name} has {_frames(pil_image)} frames; only still images are read here")
            yield pil_image


@contextmanager
def _guarded(name: str, intake: ImageLimits) -> Iterator[None]:
    """Around the work of Pillow's decoders: whatever they raise ends as a MediaError."""
    try:
        yield
    except UnidentifiedImageError:
        raise UnsupportedMedia(
            f"{name} is not an image that vlrun can read ({', '.join(intake.formats)}), or its header is broken"
        ) from None
    except (PILImage.DecompressionBombWarning, PILImage.DecompressionBombError):
        raise _too_many_pixels(name, intake) from None
    except MemoryError:
        raise MediaTooLarge(f"{name} does not fit into memory") from None
    except _DECODER_FAULTS as error:
        raise DamagedMedia(f"{name} is damaged or cut short") from error


def _most_pixels(intake: ImageLimits) -> int:
    return min(intake.max_pixels, MAX_PIXELS)


def _too_many_pixels(name: str, intake: ImageLimits) -> MediaTooLarge:
    return MediaTooLarge(f"{name} has more than {_most_pixels(intake):,} pixels, the limit")


def _check_pixels(size: tuple[int, int], name: str, intake: ImageLimits) -> None:
    """For what is in memory already."""
    if size[0] * size[1] > _most_pixels(intake):
        raise MediaTooLarge(f"{name} has {size[0] * size[1]:,} pixels; the limit is {_most_pixels(intake):,}")


def _check_segments(encoded: bytes, name: str) -> None:
    """Of the formats whose headers Pillow reads in Python, piece by piece. To be called within `_guarded`."""
    for magic, walk in ((_JPEG_MAGIC, _jpeg_segments), (_PNG_MAGIC, _png_chunks)):
        if encoded.startswith(magic) and len(list(islice(walk(encoded), MAX_SEGMENTS + 1))) > MAX_SEGMENTS:
            raise MediaTooLarge(f"{name} is made of more than {MAX_SEGMENTS} segments, the limit")


def _jpeg_segments(encoded: bytes) -> Iterator[int]:
    """The marker of each segment and scan, found as libjpeg finds them: whatever else lies between two is skipped.
    Before the first scan each `_JPEG_SKIPPED` bytes of that count as a segment, since Pillow skips them one by one.
    """
    position = len(_JPEG_MAGIC) - 1
    scanning = False
    while found := _JPEG_MARKER.search(encoded, position):
        marker = encoded[found.end() - 1]
        if marker == _JPEG_END:
            return
        yield from repeat(marker, 1 if scanning else 1 + (found.start() - position) // _JPEG_SKIPPED)
        scanning = scanning or marker == _JPEG_SCAN
        position = found.end()
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(encoded[position : position + 2], "big")


def _png_chunks(encoded: bytes) -> Iterator[bytes]:
    """The name of each chunk that holds no pixels, repeated by its weight. Raises ValueError for a wrong checksum, of
    which Pillow looks only at those before the pixels.
    """
    chunks = memoryview(encoded)
    position = len(_PNG_MAGIC)
    kind = b""
    while position + 8 <= len(chunks) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", chunks, position)
        end = position + 8 + length
        if zlib.crc32(chunks[position + 4 : end]) != int.from_bytes(chunks[end : end + 4], "big"):
            raise ValueError("checksum")
        if kind != b"IDAT":
            yield from repeat(kind, _INFLATED_WEIGHT if kind in _INFLATED else 1)
        position = end + 4


def _frames(pil_image: PILImage.Image) -> int:
    """How many frames or pages; the further frames of an MPO, which many phones write, are the same scene again."""
    return 1 if pil_image.format == "MPO" else int(getattr(pil_image, "n_frames", 1))


def _from_image(pil_image: PILImage.Image, name: str, intake: ImageLimits) -> Image:
    if 0 in pil_image.size:
        raise DamagedMedia(f"{name} has no pixels")
    _mend_deep_transparency(pil_image)
    notes = []
    frames = _frames(pil_image)
    if frames > 1:
        notes.append(f"{name} has {frames} frames; only the first is used")
        pil_image.seek(0)
    pil_image.load()
    if (
        pil_image.mode.startswith("I;16") and getattr(pil_image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    ):  # white is zero
        pil_image = PILImage.fromarray(65535 - np.asarray(pil_image))
    if intake.strict:
        _check_exif(pil_image.info.get("exif", b""), name)
    upright = ImageOps.exif_transpose(pil_image) if pil_image.getexif().get(_EXIF_ORIENTATION, 1) != 1 else pil_image
    return _image(np.asarray(_to_rgb(upright, name)), tuple(notes))


def _check_exif(exif: bytes, name: str) -> None:
    """Whether its first directory, in which the orientation stands, is all there. Pillow passes over most faults, and
    an image that lies on its side would be looked at as it lies.
    """
    tiff = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    directory = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[directory : directory + 2], order)
    if tiff and (tiff[:4] not in (b"II*\0", b"MM\0*") or directory + 2 + 12 * entries > len(tiff)):
        raise DamagedMedia(f"{name} has damaged EXIF data")


def _mend_deep_transparency(pil_image: PILImage.Image) -> None:
    """Forget the transparent colour of a PNG with 16 bits a channel: Pillow gives 8 bits of each pixel, with which the
    16 bits of that colour cannot be compared.
    """
    if isinstance(pil_image, ImageFile.ImageFile) and [tile.args for tile in pil_image.tile] == ["RGB;16B"]:
        pil_image.info.pop("transparency", None)


def _to_rgb(pil_image: PILImage.Image, name: str) -> PILImage.Image:
    """Eight-bit RGB: deep grey is scaled (Pillow would clip it), transparency goes on white."""
    if pil_image.mode.startswith("I"):
        return _from_deep_grey(pil_image, name)
    if pil_image.mode == "F":
        raise UnsupportedMedia(f"{name} holds floating-point pixels; save it as 8- or 16-bit first")
    if pil_image.has_transparency_data:
        rgba = pil_image.convert("RGBA")
        white = PILImage.new("RGBA", rgba.size, "white")
        return PILImage.alpha_composite(white, rgba).convert("RGB")
    return pil_image if pil_image.mode == "RGB" else pil_image.convert("RGB")


def _from_deep_grey(pil_image: PILImage.Image, name: str) -> PILImage.Image:
    grey = np.asarray(pil_image)
    if grey.size and (grey.min() < 0 or grey.max() > 65535):
        raise UnsupportedMedia(f"{name} holds pixels of more than 16 bits; save it as 8- or 16-bit first")
    transparent = pil_image.info.get("transparency")  # the one level of a PNG that shows what is behind it
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, 65535, grey)
    return PILImage.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_array(rgb: npt.NDArray[np.uint8], intake: ImageLimits) -> Image:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UnsupportedMedia(f"an array must be [height, width, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
    _check_pixels((rgb.shape[1], rgb.shape[0]), "the array", intake)
    return _image(rgb, ())


def _image(rgb: npt.NDArray[np.uint8], notes: tuple[str, ...]) -> Image:
    contiguous = np.ascontiguousarray(rgb)
    digest = hashlib.sha256(repr(contiguous.shape).encode())  # 30x100 and 100x30 must not collide
    digest.update(contiguous.data)
    return Image(rgb=contiguous, sha256=digest.hexdigest(), notes=notes)
