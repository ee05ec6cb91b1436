"""Opening the images of a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.media.test_image import END, header, png
from vlrun.cli.images import ImageOptions, open_images
from vlrun.errors import DamagedMedia, MediaTooLarge, OptionError


@pytest.mark.parametrize(
    ("count", "size", "error"),
    [(120, (4000, 3000), OptionError), (13, (8000, 10_000), MediaTooLarge), (1, (10, 10), DamagedMedia)],
    ids=["count", "pixels", "none"],
)
def test_images_are_counted_before_any_is_decoded(
    count: int, size: tuple[int, int], error: type[Exception], tmp_path: Path
) -> None:
    """120 photos took 41 s and 4.4 GB before they were refused. These have no pixels: decoding one fails."""
    path = tmp_path / "photo.png"
    path.write_bytes(png(header(*size), END))
    with pytest.raises(error):
        open_images([str(path)] * count, ImageOptions())
