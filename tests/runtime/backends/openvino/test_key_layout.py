"""Layouts of keys in the cache."""

from __future__ import annotations

import numpy as np

from vlrun.backends.openvino.key_layout import KeyLayout


def test_bfloat16_keys_are_the_upper_half_of_float32() -> None:
    """Not every CPU supports this layout."""
    keys = np.random.default_rng(0).standard_normal((2, 3, 4, 8)).astype(np.float32)
    cells = (keys.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(2, -1)
    read = KeyLayout("bf16", 3, 4, 8).read(cells)
    assert read.shape == (8, 3, 8)
    np.testing.assert_allclose(read.reshape(2, 4, 3, 8).transpose(0, 2, 1, 3), keys, rtol=2**-7)
