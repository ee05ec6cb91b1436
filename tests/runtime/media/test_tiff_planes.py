"""Uncompressed TIFF files with a plane per channel."""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from vlrun.errors import UnsupportedMedia
from vlrun.media.image import open_image

Order: TypeAlias = Literal["<", ">"]


def planar_tiff(pixels: npt.NDArray[np.generic], order: Order, photometric: int, rows: int | None = None) -> bytes:
    """Encode ``pixels [height, width, channels]`` in strips of ``rows``, channel by channel."""
    height, width, channels = pixels.shape
    rows = rows or height
    swapped = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [swapped[top : top + rows, :, c].tobytes() for c in range(channels) for top in range(0, height, rows)]
    body, offsets, tags = b"", [], list[tuple[int, str, list[int]]]()
    for strip in strips:
        offsets.append(8 + len(body))
        body += strip
    tags += [(256, "H", [width]), (257, "H", [height]), (258, "H", [8 * pixels.dtype.itemsize] * channels)]
    tags += [(259, "H", [1]), (262, "H", [photometric]), (273, "I", offsets), (277, "H", [channels])]
    tags += [(278, "H", [rows]), (279, "I", [len(strip) for strip in strips]), (284, "H", [2])]
    tags += [(338, "H", [2])] if channels == 4 else []
    entries = b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, body = struct.pack(f"{order}I", 8 + len(body)), body + packed
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(values)) + packed.ljust(4, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return header + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("rows", [None, 7])
@pytest.mark.parametrize("bits", [8, 16])
def test_planes_are_read_as_channels(order: Order, channels: int, rows: int | None, bits: int) -> None:
    """Pillow took 16-bit planes for 8-bit ones: garbage instead of a picture."""
    maximum = 2**bits - 1
    pixels = np.random.default_rng(1).integers(0, maximum + 1, (20, 30, channels)).astype(f"u{bits // 8}")
    if channels == 4:
        pixels[..., 3] = maximum
    opened = open_image(planar_tiff(pixels, order, 2, rows))
    np.testing.assert_array_equal(opened.rgb, pixels[..., :3] >> (bits - 8))


@pytest.mark.parametrize(("kind", "photometric"), [("u2", 1), ("u2", 0), ("u1", 0)])
def test_planes_that_pillow_misreads_are_refused(kind: str, photometric: int) -> None:
    pixels = np.zeros((4, 5, 1), kind)
    with pytest.raises(UnsupportedMedia, match="save it compressed"):
        open_image(planar_tiff(pixels, "<", photometric))
