"""Accepts JPEG files that lack only their end mark, as some cameras and downloads write them.

libjpeg fills what is missing of a truncated file, so that it looks complete with an end mark appended. A complete file
gives the same pixels whatever else is appended; a truncated one takes it for the missing part.
"""

from __future__ import annotations

import random
import re
from itertools import islice

import numpy as np
from PIL import Image as PILImage

from vlrun.errors import DamagedMedia
from vlrun.media.decoding import EncodedFile
from vlrun.media.jpeg_draft import draft
from vlrun.media.jpeg_segments import END, JPEG_MAGIC, SCAN, jpeg_segments

END_MARK = bytes((0xFF, END))
_NOISE = b"\xaa" + random.Random(1).randbytes(4096).replace(b"\xff", b"\x7f")
"""Begins with a bit that differs from libjpeg's filling, has no marker, and is longer than a minimum coded unit (10
blocks of 208 bytes at most), of which only a part may be visible.
"""
_RESTARTS = 8
"""Restart markers are numbered modulo 8."""
MAX_EXAMINED = 4096
"""Files with more are not examined."""
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_PROGRESSIVE = 0xC2
_COEFFICIENTS = 64


def lacks_end(encoded: bytes) -> bool:
    """Return whether a file is a JPEG without an end mark."""
    if encoded.endswith(END_MARK) or not encoded.startswith(JPEG_MAGIC):
        return False
    markers = [segment.marker for segment in islice(jpeg_segments(encoded), MAX_EXAMINED)]
    return len(markers) < MAX_EXAMINED and END not in markers


def with_end(encoded: bytes) -> bytes:
    """Return the file, with an end mark appended if it lacks one."""
    return encoded + END_MARK if lacks_end(encoded) else encoded


def check_complete(encoded: bytes, decoded: PILImage.Image, name: str, reduction: int = 1) -> None:
    """Raise DamagedMedia if a JPEG without an end mark lacks more than that.

    Args:
        encoded: The file, without an end mark; libjpeg has read its segments.
        decoded: The loaded image of the file with an end mark appended.
        name: The name in messages.
        reduction: What the image was reduced by.
    """
    with PILImage.open(EncodedFile(_with_noise(encoded), name), formats=["JPEG"]) as probed:
        draft(probed, reduction)
        same = np.array_equal(np.asarray(probed), np.asarray(decoded))
    if not same or not _has_all_scans(encoded):
        raise DamagedMedia(f"{name} is damaged or cut short")


def _with_noise(encoded: bytes) -> bytes:
    """Append noise, for this restart interval and for the next ones, and an end mark."""
    scan = encoded.rfind(bytes((0xFF, SCAN)))
    following = len(_RESTART.findall(encoded, scan)) % _RESTARTS
    order = [*range(following, _RESTARTS), *range(following)]
    intervals = (bytes((0xFF, 0xD0 + number)) + _NOISE for number in order)
    return b"".join([encoded.rstrip(b"\xff"), _NOISE, *intervals, END_MARK])


def _has_all_scans(encoded: bytes) -> bool:
    """Return whether the scans of a progressive JPEG hold every bit of all coefficients."""
    left: dict[int, set[int]] = {}
    for marker, _, content in jpeg_segments(encoded):
        if marker == _PROGRESSIVE:
            left = {component: set(range(_COEFFICIENTS)) for component in content[6::3]}
        elif marker == SCAN and left:
            components, (first, last, bits) = content[1:-3:2], content[-3:]
            for component in components:
                left[component].difference_update(range(first, last + 1) if bits & 15 == 0 else ())
    return not any(left.values())
