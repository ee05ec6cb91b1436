"""Positions compared with transformers: interpolated table, vision rotary angles, M-RoPE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vlrun.models.qwen3_vl.positions import patch_positions, token_positions
from vlrun.vision.grid import Grid

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE = 48
HEAD_DIM = 64
IMAGE, START, END = 5, 6, 7


@pytest.fixture(scope="module")
def vision_model() -> object:
    config = transformers.Qwen3VLConfig(
        vision_config={"depth": 0, "hidden_size": 4 * HEAD_DIM, "num_heads": 4, "num_position_embeddings": SIDE**2}
    ).vision_config
    config.deepstack_visual_indexes = []
    return transformers.models.qwen3_vl.modeling_qwen3_vl.Qwen3VLVisionModel(config).eval()


GRIDS = [(2, 2), (16, 16), (48, 48), (96, 2), (2, 130), (30, 38), (64, 48), (94, 142), (256, 256)]


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_patch_positions_equal_those_of_transformers(vision_model: object, height: int, width: int) -> None:
    """Guards corners, weights and merge order: an error blurs every image slightly."""
    positions = patch_positions(Grid(height, width, 2), SIDE, HEAD_DIM, 10000.0)
    thw = torch.tensor([[1, height, width]])
    with torch.no_grad():
        table = vision_model.pos_embed.weight.numpy()  # type: ignore[attr-defined]
        learned = vision_model.fast_pos_embed_interpolate(thw).numpy()  # type: ignore[attr-defined]
        angles = vision_model.rot_pos_emb(thw)  # type: ignore[attr-defined]
    ours = (table[positions.indices] * positions.weights[..., None]).sum(0)
    np.testing.assert_allclose(ours, learned, atol=1e-6)
    both = torch.cat([angles, angles], -1)
    np.testing.assert_allclose(positions.cos, both.cos().numpy(), atol=2e-5)
    np.testing.assert_allclose(positions.sin, both.sin().numpy(), atol=2e-5)


PROMPTS: list[list[tuple[int, int, int]]] = [
    [],
    [(4, 16, 16)],
    [(1, 16, 30)],
    [(3, 30, 4), (0, 4, 64)],
    [(1, 2, 2), (5, 8, 8), (2, 44, 10)],
]


@pytest.mark.parametrize("images", PROMPTS)
def test_token_positions_equal_get_rope_index(images: Sequence[tuple[int, int, int]]) -> None:
    ids, places = _prompt(images)
    config = transformers.Qwen3VLConfig(image_token_id=IMAGE, vision_start_token_id=START, vision_end_token_id=END)
    model = type("Bare", (), {"config": config})()
    rope_index = transformers.models.qwen3_vl.modeling_qwen3_vl.Qwen3VLModel.get_rope_index
    grids = torch.tensor([[1, h, w] for _, h, w in images]) if images else None
    expected, delta = rope_index(model, torch.tensor([ids]), grids, None, torch.ones(1, len(ids), dtype=torch.long))
    ours = token_positions(len(ids), places)
    np.testing.assert_array_equal(ours, expected[:, 0].numpy())
    assert ours.max() + 1 - len(ids) == int(delta), "the position of the next token differs"


def _prompt(images: Sequence[tuple[int, int, int]]) -> tuple[list[int], list[tuple[int, Grid]]]:
    ids: list[int] = []
    places = []
    for text, height, width in images:
        ids += [1] * text + [START]
        grid = Grid(height, width, 2)
        places.append((len(ids), grid))
        ids += [IMAGE] * grid.tokens + [END]
    return ids + [1] * 6, places
