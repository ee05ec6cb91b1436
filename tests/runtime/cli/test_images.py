"""Opening the images of a command."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.runtime.media.test_image import END, header, png
from vlrun.cli.images import ImageOptions, load_images, read_image_headers
from vlrun.cli.progress_line import ProgressLine
from vlrun.errors import DamagedMedia, MediaTooLarge, OptionError
from vlrun.media.image import Image

QUIET = ProgressLine(wanted=False)


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
        load_images(read_image_headers([str(path)] * count), ImageOptions(), QUIET)


@pytest.mark.parametrize("keep", [True, False])
def test_only_what_is_needed_of_an_image_stays_in_memory(keep: bool, tmp_path: Path) -> None:
    """``vlrun ask`` kept all pixels of all images, as given and cropped, until its last answer."""
    names = [str(tmp_path / f"{number}.png") for number in range(3)]
    for name in names:
        PILImage.new("RGB", (400, 300)).save(name)
    alive: list[int] = []
    arrays: list[weakref.ref[np.ndarray[Any, Any]]] = []

    def reduce(image: Image) -> Image:
        arrays.append(weakref.ref(image.rgb))
        alive.append(sum(array() is not None for array in arrays))
        return replace(image, rgb=image.rgb[:2, :2].copy())

    loaded = load_images(
        read_image_headers(names), ImageOptions.parse("0,0,200,200"), QUIET, reduce, keep_original=keep
    )
    assert alive == [1, 1, 1]
    assert [one.image.size for one in loaded] == [(2, 2)] * 3
    assert [one.original.size if one.original else None for one in loaded] == [(400, 300) if keep else None] * 3
