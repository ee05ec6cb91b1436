"""The image of the tutorials is reproducible."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image

from tests.paths import EXAMPLES
from training.articles import TRUTH, articles_shelf

IMAGE = EXAMPLES / "articles_shelf.png"


def test_the_committed_image_equals_the_drawn_one() -> None:
    """Guards the figures in the docs."""
    image, items = articles_shelf()
    assert np.array_equal(np.asarray(Image.open(IMAGE).convert("RGB")), np.asarray(image))
    assert Counter(item.kind for item in items) == TRUTH == {"bottle": 6, "bag": 9, "box": 5}
    assert len({item.colour for item in items if item.kind == "bag"}) == 3
    boxes = [item.box for item in items if item.kind == "box"]
    assert len({round(box[3], 2) for box in boxes}) == 2
