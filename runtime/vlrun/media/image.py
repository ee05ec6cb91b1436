"""A picture from a file, from bytes or from memory, as upright RGB within limits.

Knows file formats, orientation, transparency and bit depth; does not know the model, which resizes later. The pixel
limit is checked on the header, before anything is decoded, and only the formats named here are ever opened.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from vlrun.errors import DamagedMedia, MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.frame import Frame, Matrix

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""Pillow's names of the formats that vlrun opens. Its JPEG covers MPO, which many phones write as .jpg."""

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 89_478_485
"""Width x height: Pillow's own warning limit (a quarter GiB of RGB), above every phone's normal picture."""

_DECODER_FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error)
"""What Pillow's decoders raise on broken files, from fuzzing and its own test images."""

_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262


@dataclass(frozen=True)
class Picture:
    """Upright pixels ``rgb [height, width, 3]`` uint8, and a hash of size and pixels that names the content.

    ``notes`` tells what was left out or changed on the way in, in words for the user; ``made_in``: where it lies in the
    picture that it was made from.
    """

    rgb: npt.NDArray[np.uint8]
    sha256: str
    notes: tuple[str, ...] = ()
    made_in: Frame | None = None

    @property
    def frame(self) -> Frame:
        """Where it lies in its original; a picture that was not made from another is its own."""
        return self.made_in or Frame(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


PictureSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | Image.Image | npt.NDArray[np.uint8] | Picture


def open_picture(source: PictureSource) -> Picture:
    """A picture from a path, an encoded file's bytes, a Pillow image or an RGB array ``[height, width, 3]`` uint8.

    Raises MediaNotFound, UnsupportedMedia, DamagedMedia or MediaTooLarge, each with one sentence that names the source.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _guarded(lambda: _from_image(source, "the image"), "the image")
    if isinstance(source, bytes | bytearray):
        return _decode(bytes(source), "the picture")
    if not isinstance(source, str | os.PathLike):
        raise UnsupportedMedia(f"a picture is a path, bytes, a Pillow image or an array, not {type(source).__name__}")
    return _decode(_read(Path(source)), f"'{os.fspath(source)}'")


def made_from(picture: Picture, rgb: npt.NDArray[np.uint8], matrix: Matrix, notes: tuple[str, ...] = ()) -> Picture:
    """A picture made from another, with its notes and further ones. ``matrix`` takes its pixels into the other's."""
    made = _picture(rgb, (*picture.notes, *notes))
    return replace(made, made_in=picture.frame.within(matrix))


def _read(path: Path) -> bytes:
    if "://" in os.fspath(path) or os.fspath(path).startswith(("http:/", "https:/")):
        raise MediaNotFound(f"'{path}' is an address: vlrun opens files only, so download it first")
    try:
        if path.is_dir():
            raise MediaNotFound(f"'{path}' is a folder, not a picture")
        with path.open("rb") as file:
            encoded = file.read(MAX_FILE_BYTES + 1)  # a pipe or a device does not tell its size beforehand
    except FileNotFoundError:
        raise MediaNotFound(f"no such picture: '{path}'") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise MediaNotFound(f"cannot open '{path}': {reason}") from error
    if len(encoded) > MAX_FILE_BYTES:
        raise MediaTooLarge(f"'{path}' has more than {MAX_FILE_BYTES:,} bytes, the limit")
    return encoded


def _decode(encoded: bytes, name: str) -> Picture:
    if not encoded:
        raise DamagedMedia(f"{name} is empty")
    if len(encoded) > MAX_FILE_BYTES:
        raise MediaTooLarge(f"{name} has more than {MAX_FILE_BYTES:,} bytes, the limit")

    def opened() -> Picture:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return _from_image(image, name)

    return _guarded(opened, name)


def _guarded(work: Callable[[], Picture], name: str) -> Picture:
    """Do the work of Pillow's decoders; whatever they raise ends as a MediaError."""
    with warnings.catch_warnings():
        # Pillow warns of oddities in metadata, which say nothing to our user, and of bombs, which we refuse.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return work()
        except UnidentifiedImageError:
            raise UnsupportedMedia(
                f"{name} is not a picture that vlrun can read ({', '.join(FORMATS)}), or its header is broken"
            ) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise MediaTooLarge(f"{name} has more than {MAX_PIXELS:,} pixels, the limit") from None
        except MemoryError:
            raise MediaTooLarge(f"{name} does not fit into memory") from None
        except _DECODER_FAULTS as error:
            raise DamagedMedia(f"{name} is damaged or cut short") from error


def _from_image(image: Image.Image, name: str) -> Picture:
    if 0 in image.size:
        raise DamagedMedia(f"{name} has no pixels")
    _mend_deep_transparency(image)
    if image.width * image.height > MAX_PIXELS:
        raise MediaTooLarge(f"{name} has {image.width * image.height:,} pixels; the limit is {MAX_PIXELS:,}")
    notes = []
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":  # the further frames of an MPO are the same scene again
        notes.append(f"{name} has {frames} frames; only the first is used")
        image.seek(0)
    image.load()
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0:  # white is zero
        image = Image.fromarray(65535 - np.asarray(image))
    upright = ImageOps.exif_transpose(image) if image.getexif().get(_EXIF_ORIENTATION, 1) != 1 else image
    return _picture(np.asarray(_to_rgb(upright, name)), tuple(notes))


def _mend_deep_transparency(image: Image.Image) -> None:
    """Forget the transparent colour of a PNG with 16 bits a channel: Pillow gives 8 bits of each pixel, with which the
    16 bits of that colour cannot be compared.
    """
    if isinstance(image, ImageFile.ImageFile) and [tile.args for tile in image.tile] == ["RGB;16B"]:
        image.info.pop("transparency", None)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Eight-bit RGB: deep grey is scaled (Pillow would clip it), transparency goes on white."""
    if image.mode.startswith("I"):
        return _from_deep_grey(image, name)
    if image.mode == "F":
        raise UnsupportedMedia(f"{name} holds floating-point pixels; save it as 8- or 16-bit first")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image, name: str) -> Image.Image:
    grey = np.asarray(image)
    if grey.size and (grey.min() < 0 or grey.max() > 65535):
        raise UnsupportedMedia(f"{name} holds pixels of more than 16 bits; save it as 8- or 16-bit first")
    transparent = image.info.get("transparency")  # the one level of a PNG that shows what is behind it
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, 65535, grey)
    return Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_array(rgb: npt.NDArray[np.uint8]) -> Picture:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UnsupportedMedia(f"an array must be [height, width, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
    if rgb.shape[0] * rgb.shape[1] > MAX_PIXELS:
        raise MediaTooLarge(f"the array has {rgb.shape[0] * rgb.shape[1]:,} pixels; the limit is {MAX_PIXELS:,}")
    return _picture(rgb, ())


def _picture(rgb: npt.NDArray[np.uint8], notes: tuple[str, ...]) -> Picture:
    contiguous = np.ascontiguousarray(rgb)
    digest = hashlib.sha256(repr(contiguous.shape).encode())  # 30x100 and 100x30 must not collide
    digest.update(contiguous.data)
    return Picture(rgb=contiguous, sha256=digest.hexdigest(), notes=notes)
