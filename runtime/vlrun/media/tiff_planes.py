"""Corrects how Pillow reads uncompressed TIFF files that store each channel as a plane.

Pillow shortens the raw mode of a plane to its first letter: it takes 16-bit samples for 8-bit ones, and ignores that
white is zero.
"""

from __future__ import annotations

from PIL import ImageFile, TiffImagePlugin

from vlrun.errors import UnsupportedMedia

_PLANAR_CONFIGURATION, _PLANES = 284, 2
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def correct_planes(pil_image: TiffImagePlugin.TiffImageFile, name: str) -> None:
    """Correct the tiles of a TIFF that is not loaded yet. Raises UnsupportedMedia if Pillow cannot read its planes."""
    tags = pil_image.tag_v2
    if tags.get(_PLANAR_CONFIGURATION) != _PLANES or any(tile.codec_name != "raw" for tile in pil_image.tile):
        return
    bits, mode = set(tags.get(_BITS_PER_SAMPLE, (1,))), pil_image.mode
    known = all(isinstance(tile.args, tuple) and tile.args[0] in mode for tile in pil_image.tile)
    if known and bits == {8} and mode in ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK"):
        if tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
            return
    elif known and bits == {16} and mode in ("RGB", "RGBA", "RGBX"):
        suffix = ";16L" if tags.prefix == b"II" else ";16B"
        pil_image.tile = [_with_suffix(tile, suffix) for tile in pil_image.tile]
        return
    raise UnsupportedMedia(f"{name} is a TIFF in planes of a kind that vlrun cannot read: save it compressed")


def _with_suffix(tile: ImageFile._Tile, suffix: str) -> ImageFile._Tile:
    args = tile.args
    return tile._replace(args=(f"{args[0]}{suffix}", *args[1:])) if isinstance(args, tuple) else tile
