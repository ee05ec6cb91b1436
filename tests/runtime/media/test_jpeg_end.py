"""JPEG files without an end mark: complete ones are read, truncated ones are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vlrun.errors import DamagedMedia, MediaError
from vlrun.media.image import ImageLimits, open_image
from vlrun.media.jpeg_end import MAX_EXAMINED, lacks_end

SAVED: list[dict[str, object]] = [
    {},
    {"progressive": True},
    {"quality": 100},
    {"subsampling": 0, "optimize": True},
    {"restart_marker_blocks": 2, "quality": 98},
    {"restart_marker_rows": 1, "progressive": True},
]


def encode(mode: str, **options: object) -> bytes:
    """Return a JPEG whose last units are only partly visible."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((35, 27), Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", SAVED, ids=str)
def test_only_the_end_mark_may_be_missing(mode: str, options: dict[str, object]) -> None:
    """Libjpeg fills missing pixels with grey as soon as it sees an end mark."""
    encoded = encode(mode, **options)
    complete = open_image(encoded)
    for cut in (1, 2):  # half of the mark, and all of it
        for strict in (False, True):
            opened = open_image(encoded[:-cut], ImageLimits(strict=strict))
            assert (opened.sha256, opened.notes) == (complete.sha256, ())
    for cut in (*range(3, 40), *range(40, len(encoded), 23)):
        with pytest.raises(MediaError):
            open_image(encoded[:-cut])


def test_a_progressive_file_that_ends_between_scans_is_refused() -> None:
    encoded = encode("RGB", progressive=True)
    scans = [index for index in range(len(encoded)) if encoded[index : index + 2] == b"\xff\xda"]
    tables = [index for index in range(len(encoded)) if encoded[index : index + 2] == b"\xff\xc4"]
    for start in scans[1:]:
        end = max(table for table in tables if table < start)
        with pytest.raises(DamagedMedia):
            open_image(encoded[:end])


def test_only_jpeg_files_without_an_end_mark_are_examined() -> None:
    encoded = encode("RGB")
    assert lacks_end(encoded[:-2])
    assert not lacks_end(encoded)
    assert not lacks_end(encoded + b"more")
    assert not lacks_end(b"\x89PNG")
    assert not lacks_end(b"\xff\xd8\xff" + b"\xff\xe0\x00\x02" * MAX_EXAMINED)
