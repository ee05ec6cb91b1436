"""The batched forward pass used in training, compared with that of transformers."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.batches import NO_TARGET, PAD, PREFIX, TEXT_ONLY, Batch
from training.network import (
    SUPERVISED_LAYER,
    VISION_HEADS,
    VISION_HIDDEN,
    BatchedVLM,
    SupervisedHead,
    vision_positions,
)
from training.scenes import MAX_PIXELS, MIN_PIXELS
from training.training_step import attention_loss, forward, image_patches
from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.media.image import open_image
from vlrun.vision.patches import cut


def patch_rows(batch: Batch, image: int) -> torch.Tensor:
    """Return the patches as the runtime cuts them."""
    return torch.from_numpy(cut(open_image(batch.rgb[image]), batch.grid, PREPROCESSING, VISION).pixels)


def reference_logits(model: Qwen3VLForConditionalGeneration, batch: Batch, row: int, group: int) -> torch.Tensor:
    """Return transformers' logits for one question, after its images if it sees them."""
    ids, groups = batch.ids[row], batch.groups[row]
    own = ids[groups == group]
    if group >= TEXT_ONLY:
        return model(input_ids=torch.from_numpy(own)[None]).logits[0]
    ids_with_prefix = torch.from_numpy(np.concatenate([ids[groups == PREFIX], own]))[None]
    first = row // batch.sharing * len(batch.starts)
    images = range(first, first + len(batch.starts))
    if batch.timeline:
        frames = image_patches(batch.rgb, batch.grid).view(-1, 2, batch.grid.patches, 3, 256)
        patches = frames[images.start : images.stop].permute(0, 2, 3, 1, 4).reshape(-1, 6 * 256)
        clip = torch.tensor([[len(images), batch.grid.height, batch.grid.width]])
        result = model(input_ids=ids_with_prefix, pixel_values_videos=patches, video_grid_thw=clip)
        return result.logits[0, -len(own) :]
    grid = torch.tensor([[1, batch.grid.height, batch.grid.width] for _ in images])
    pixels = torch.cat([patch_rows(batch, image) for image in images])
    return model(input_ids=ids_with_prefix, pixel_values=pixels, image_grid_thw=grid).logits[0, -len(own) :]


def test_patches_equal_those_of_the_runtime(batch: Batch) -> None:
    ours = image_patches(batch.rgb, batch.grid)
    for row in range(len(batch.rgb)):
        frames = patch_rows(batch, row).view(-1, 3, 2, 16 * 16)
        assert torch.allclose(ours[row].view(-1, 3, 256), frames[:, :, 0], atol=1e-6)
        assert torch.equal(frames[:, :, 0], frames[:, :, 1])


def test_packed_questions_equal_single_ones(
    model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, batch: Batch
) -> None:
    """Guards the tree mask, restarted positions, summed patch weights and DeepStack rows."""
    single, batched = deepcopy(model), BatchedVLM(deepcopy(model))  # BatchedVLM replaces the attention function
    single.set_attn_implementation("eager")
    with torch.no_grad():
        at_targets, *_ = forward(batched, batch, vision_positions(batch.grid))
        packed = torch.zeros(*batch.ids.shape, at_targets.shape[-1])
        packed[torch.from_numpy(batch.targets != NO_TARGET)] = at_targets
        compared = 0
        for row, qa_pairs in enumerate(batch.qa_pairs):
            for _, first, end in qa_pairs:
                group = int(batch.groups[row, first])
                start = int(np.flatnonzero(batch.groups[row] == group)[0])
                expected = reference_logits(single, batch, row, group)[first - start : end - start]
                difference = (packed[row, first:end] - expected).abs().max()
                assert difference <= 1e-4 * expected.abs().max(), (row, group)
                compared += 1
    assert compared >= 6
    assert (batch.groups >= TEXT_ONLY).any() or (batch.groups[:, : batch.starts[0]] == PAD).any()


def test_the_supervised_head_is_the_first_of_its_layer(model: Qwen3VLForConditionalGeneration, batch: Batch) -> None:
    """The loss is zero for a head that attends to the targets, and reads that head alone."""
    layer = model.model.language_model.layers[SUPERVISED_LAYER].self_attn
    supervised = SupervisedHead(torch.full((*batch.ids.shape, batch.ids.shape[1]), -1e9))
    assert supervised.scores is not None
    columns = np.r_[0, *(slice(start, start + batch.grid.tokens) for start in batch.starts)]
    for row, position, share in zip(
        batch.attention.rows, batch.attention.positions, batch.attention.targets, strict=True
    ):
        supervised.scores[row, position, columns] = torch.from_numpy(share).clamp(min=1e-30).log()
    assert attention_loss(supervised, batch).item() == pytest.approx(0, abs=1e-5)

    def loss() -> float:
        with torch.no_grad():
            return forward(BatchedVLM(deepcopy(model)), batch, vision_positions(batch.grid))[-1].item()

    before = loss()
    with torch.no_grad():
        layer.q_proj.weight[layer.head_dim :] *= 3  # the heads without supervision
    assert loss() == before
    with torch.no_grad():
        layer.q_proj.weight[: layer.head_dim].neg_()
    assert loss() != before


HALF = (0.5, 0.5, 0.5)
PREPROCESSING = Preprocessing(MIN_PIXELS, MAX_PIXELS, HALF, HALF)
VISION = VisionDimensions(VISION_HIDDEN, VISION_HEADS, 5, 16, 2, 2, 16, 2)
