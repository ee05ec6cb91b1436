"""Image features: shape and dtype."""

from __future__ import annotations

import numpy as np
import pytest

from vlrun.vision.features import ImageFeatures


def test_other_shapes_and_dtypes_are_refused() -> None:
    """Guards against lost DeepStack rows."""
    with pytest.raises(ValueError, match="float32"):
        ImageFeatures(np.zeros((4, 8), np.float32))
    with pytest.raises(ValueError, match="float32"):
        ImageFeatures(np.zeros((2, 4, 8)))  # type: ignore[arg-type]  # float64
