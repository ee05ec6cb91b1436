"""Preprocessing compared bit for bit with transformers' image processor."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PILImage

from vlrun.errors import MediaTooLarge
from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.media.clip import make_clip
from vlrun.media.image import Image, open_image
from vlrun.media.resizing import resize_rgb
from vlrun.vision.grid import Grid
from vlrun.vision.patches import cut, fit, grid_of
from vlrun.vision.vision_encoder import Patches

VISION = VisionDimensions(
    hidden=48, heads=3, depth=5, patch=16, temporal_patch=2, merge=2, position_side=7, deepstack=2
)
BUDGET = 16384 * 32 * 32


def preprocessing(mean: float = 0.5, std: float = 0.5) -> Preprocessing:
    return Preprocessing(65_536, 1_048_576, (mean, 0.5, 0.4), (std, 0.5, 0.6))


def cut_within(image: Image, limits: Preprocessing, budget: int) -> Patches:
    return cut(image, grid_of(image.size, limits, VISION, budget), limits, VISION)


def noise(width: int, height: int) -> PILImage.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return PILImage.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


SIZES = [(256, 256), (640, 480), (333, 517), (1, 1), (31, 33), (1920, 1080), (2400, 150), (90, 1500), (1024, 768)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.48145466, 0.26862954)])
def test_patches_equal_those_of_transformers(width: int, height: int, mean: float, std: float) -> None:
    """Guards resize passes, rounding, patch order and the grid."""
    reference = pytest.importorskip("transformers").Qwen2VLImageProcessor(
        min_pixels=65_536,
        max_pixels=1_048_576,
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[mean, 0.5, 0.4],
        image_std=[std, 0.5, 0.6],
    )
    image = noise(width, height)
    expected = reference(resized_width_first(image), return_tensors="np")
    patches = cut_within(open_image(image), preprocessing(mean, std), BUDGET)
    assert [1, patches.grid.height, patches.grid.width] == expected["image_grid_thw"][0].tolist()
    np.testing.assert_array_equal(patches.pixels, expected["pixel_values"])


def resized_width_first(image: PILImage.Image) -> PILImage.Image:
    """Resize the width first, as the reference did before Pillow 13 swapped the passes."""
    height, width = fit(image.height, image.width, 32, 65_536, 1_048_576)
    return image.resize((width, image.height), PILImage.Resampling.BICUBIC).resize(
        (width, height), PILImage.Resampling.BICUBIC
    )


def test_patches_have_a_fixed_hash() -> None:
    """Guards against another resize in Pillow, on an image whose height shrinks more than its width. The hash is that
    of transformers 4.57.6 with Pillow 12.3, the last version that resizes the width first.
    """
    patches = cut_within(open_image(noise(300, 1900)), preprocessing(), 300 * 600)
    assert hashlib.sha256(patches.pixels.tobytes()).hexdigest() == (
        "fbb76506cf3928e2e40bbb648e3d4dea6d6166c6c2024820f8ebdc37fc7cfd0d"
    )


def test_a_budget_reduces_the_grid_but_never_enlarges_it() -> None:
    """Guards the memory of small machines: a phone photo would take 16,384 tokens."""
    size = (1200, 900)
    assert grid_of(size, preprocessing(), VISION, 256 * 32 * 32).tokens <= 256
    assert grid_of(size, preprocessing(), VISION, 10**9) == grid_of(size, preprocessing(), VISION, 1_048_576)
    assert grid_of(size, preprocessing(), VISION, 1) == grid_of(size, preprocessing(), VISION, 65_536)  # the minimum


def test_aspect_ratios_above_200_are_refused() -> None:
    assert fit(20, 4000, 32, 65_536, 1_048_576)[1] > 0
    with pytest.raises(MediaTooLarge, match="at most 200"):
        fit(20, 4001, 32, 65_536, 1_048_576)


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("size", [(96, 64), (256, 128)])
def test_pairs_of_frames_equal_those_of_transformers(count: int, size: tuple[int, int]) -> None:
    """Its processor runs with a stand-in for torchvision: the frames are in their final size, so nothing is resized."""
    pytest.importorskip("transformers", reason="needs the workbench packages")
    torch = pytest.importorskip("torch", reason="needs the workbench packages")
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    limits = preprocessing()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (limits.mean, limits.std))
    width, height = size
    frames = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)
    processor = SimpleNamespace(rescale_and_normalize=lambda video, *_: (video.float() / 255 - mean) / std)
    expected = Qwen3VLVideoProcessor._preprocess(
        processor, [torch.from_numpy(frames).permute(0, 3, 1, 2)],
        do_resize=False, patch_size=16, temporal_patch_size=2, merge_size=2,
    )  # fmt: skip
    clip = make_clip([(float(index), frame) for index, frame in enumerate(frames)], size)
    grid = Grid(height // 16, width // 16, 2)
    ours = np.concatenate([cut(pair, grid, limits, VISION).pixels for pair in clip.pairs])
    assert expected["video_grid_thw"].tolist() == [[len(clip.pairs), grid.height, grid.width]]
    np.testing.assert_allclose(ours, expected["pixel_values_videos"].numpy(), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (333, 517), (100, 60)])
def test_frames_are_resized_as_torch_does(width: int, height: int) -> None:
    """The reference resizes frames with torch, whose antialiased bicubic differs from Pillow's by rounding alone."""
    torch = pytest.importorskip("torch", reason="needs the workbench packages")
    frame = np.array(noise(width // 8, height // 8).resize((width, height), PILImage.Resampling.BICUBIC))
    target = 192, 128
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(frame).permute(2, 0, 1)[None], target[::-1], mode="bicubic", antialias=True
    )
    difference = resize_rgb(frame, *target).astype(int) - expected[0].permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1
