"""Coordinates of derived images map to the original."""

from __future__ import annotations

from vlrun.media.transform import ImageTransform

SHIFT = (1.0, 0.0, 30.0, 0.0, 1.0, 40.0)
QUARTER_TURN = (0.0, -1.0, 100.0, 1.0, 0.0, 0.0)  # an image of 200 x 100 pixels, upright again in 100 x 200


def test_points_and_boxes_are_mapped() -> None:
    shifted = ImageTransform((100, 100), SHIFT)
    assert shifted.point(1, 2) == (31, 42)
    assert shifted.box(0, 0, 10, 20) == (30, 40, 40, 60)
    turned = ImageTransform((100, 200), QUARTER_TURN)
    assert turned.box(0, 0, 50, 20) == (80, 0, 100, 50)


def test_results_are_clamped_to_the_original() -> None:
    shifted = ImageTransform((100, 100), SHIFT)
    assert shifted.point(-500, 500) == (0, 100)
    assert shifted.box(-500, 0, 500, 10) == (0, 40, 100, 50)


def test_corners_may_lie_outside_of_the_original() -> None:
    assert ImageTransform((10, 20), SHIFT).corners(7, 9) == ((30, 40), (37, 40), (30, 49))
    assert ImageTransform((100, 200), QUARTER_TURN).corners(200, 100) == ((100, 0), (100, 200), (0, 0))


def test_composed_transforms_apply_the_inner_one_first() -> None:
    turned = ImageTransform((500, 500), SHIFT).compose(QUARTER_TURN)
    assert turned.point(7, 9) == ImageTransform((500, 500), SHIFT).point(100 - 9, 7)
