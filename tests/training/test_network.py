"""The tiny model's batched forward, which trains it, against transformers' own, which defines it."""

from __future__ import annotations

import itertools
from copy import deepcopy

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training import batches, vocabulary
from training.batches import ALONE, NO_TARGET, PAD, PREFIX, Batch, Packer, make_batch
from training.learning import forward, look_loss, patches_of
from training.network import (
    VISION_HEADS,
    VISION_HIDDEN,
    WATCHED_LAYER,
    BatchedVLM,
    Watched,
    configuration,
    vision_positions,
)
from training.scenes import LEAST_PIXELS, MOST_PIXELS
from training.vocabulary import SPECIAL, train_tokenizer
from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.media.image import open_image
from vlrun.vision.patches import cut

HALF = (0.5, 0.5, 0.5)
PREPROCESSING = Preprocessing(LEAST_PIXELS, MOST_PIXELS, HALF, HALF)
VISION = VisionDimensions(VISION_HIDDEN, VISION_HEADS, 5, 16, 2, 2, 16, 2)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "CORPUS_SCENES", 10)
        return train_tokenizer([])


@pytest.fixture(scope="module", params=["shapes", "pair", "tools"])
def batch(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> Batch:
    """Two images, each with questions that do not see it, several that do and a conversation; two pairs; and two
    images behind tools.
    """
    with pytest.MonkeyPatch.context() as patch:
        for chance in ("SELF_CHANCE", "TURNS_CHANCE"):
            patch.setattr(batches, chance, 1.0)
        patch.setattr(batches, "COPY_CHANCE", 0.0)
        patch.setattr(batches, "LOCATE_CHANCE", 0.0)
        images = 2 if request.param == "shapes" else 4
        return make_batch(np.random.default_rng(3), Packer(tokenizer), [], images, request.param)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Qwen3VLForConditionalGeneration:
    """Random weights, larger than usual so that every input matters."""
    torch.manual_seed(0)
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    made = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return made


def patch_rows(batch: Batch, image: int) -> torch.Tensor:
    """As the runtime cuts the image."""
    return torch.from_numpy(cut(open_image(batch.rgb[image]), batch.grid, PREPROCESSING, VISION).pixels)


def reference(model: Qwen3VLForConditionalGeneration, batch: Batch, row: int, group: int) -> torch.Tensor:
    """The logits of transformers for one question on its own, behind its image if it sees one."""
    ids, groups = batch.ids[row], batch.groups[row]
    own = ids[groups == group]
    if group >= ALONE:
        return model(input_ids=torch.from_numpy(own)[None]).logits[0]
    whole = torch.from_numpy(np.concatenate([ids[groups == PREFIX], own]))[None]
    shown = range(row * len(batch.starts), (row + 1) * len(batch.starts))
    grid = torch.tensor([[1, batch.grid.height, batch.grid.width] for _ in shown])
    pixels = torch.cat([patch_rows(batch, image) for image in shown])
    return model(input_ids=whole, pixel_values=pixels, image_grid_thw=grid).logits[0, -len(own) :]


def test_patches_equal_the_runtime_s(batch: Batch) -> None:
    """Guards training on what the runtime will show: same pixels, same order."""
    ours = patches_of(batch.rgb, batch.grid)
    for row in range(len(batch.rgb)):
        frames = patch_rows(batch, row).view(-1, 3, 2, 16 * 16)
        assert torch.allclose(ours[row].view(-1, 3, 256), frames[:, :, 0], atol=1e-6)
        assert torch.equal(frames[:, :, 0], frames[:, :, 1])


def test_packed_questions_equal_single_ones(
    model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, batch: Batch
) -> None:
    """Guards the whole trick of training: tree mask, restarted positions, summed patch weights, DeepStack rows."""
    single, batched = deepcopy(model), BatchedVLM(deepcopy(model))  # which takes an attention of its own
    single.config.text_config._attn_implementation = "eager"
    with torch.no_grad():
        at_targets, *_ = forward(batched, batch, vision_positions(batch.grid))
        packed = torch.zeros(*batch.ids.shape, at_targets.shape[-1])
        packed[torch.from_numpy(batch.targets != NO_TARGET)] = at_targets
        compared = 0
        for row, exchanges in enumerate(batch.exchanges):
            for _, first, end in exchanges:
                group = int(batch.groups[row, first])
                start = int(np.flatnonzero(batch.groups[row] == group)[0])
                expected = reference(single, batch, row, group)[first - start : end - start]
                difference = (packed[row, first:end] - expected).abs().max()
                assert difference <= 1e-4 * expected.abs().max(), (row, group)
                compared += 1
    assert compared >= 8
    assert (batch.groups >= ALONE).any() or (
        batch.groups[:, : batch.starts[0]] == PAD
    ).any()  # with tools none is alone


def test_a_conversation_is_one_group(tokenizer: Tokenizer, batch: Batch) -> None:
    """Guards turns: a later question sees what was said before it, as the chat template writes it."""
    between = "<|im_end|>\n<|im_start|>user\n"
    several = 0
    for row, exchanges in enumerate(batch.exchanges):
        for (before, _, end), (after, first, _) in itertools.pairwise(exchanges):
            if batch.groups[row, end] == batch.groups[row, end - 1] == batch.groups[row, first]:
                text = tokenizer.decode(batch.ids[row, end : first + 1].tolist(), skip_special_tokens=False)
                assert text == f"{between}{after.question}<|im_end|>\n<|im_start|>assistant\n", before
                several += 1
    assert several or len(batch.starts) > 1


def test_targets_are_the_answers(tokenizer: Tokenizer, batch: Batch) -> None:
    """Guards the packing: targets spell the answer and its end, and stand one token before."""
    for row, exchanges in enumerate(batch.exchanges):
        for exchange, first, end in exchanges:
            targets = batch.targets[row, first:end]
            assert tokenizer.decode(targets[:-1].tolist()) == exchange.answer
            assert targets[-1] == tokenizer.token_to_id("<|im_end|>")
            assert batch.ids[row, first + 1 : end].tolist() == targets[:-1].tolist()
    assert (batch.targets[batch.groups == PAD] == NO_TARGET).all()


def test_looks_stand_where_their_characters_are_predicted(tokenizer: Tokenizer, batch: Batch) -> None:
    """Guards what attention is taught: a look belongs to the position that predicts its part of the answer."""
    looks = batch.looks
    checked = 0
    for row, exchanges in enumerate(batch.exchanges):
        for exchange, first, end in exchanges:
            here = looks.positions[(looks.rows == row) & (looks.positions >= first) & (looks.positions < end)]
            said = tokenizer.decode([int(batch.targets[row, position]) for position in here])
            expected = "".join(exchange.answer[look.start : look.end] for look in exchange.looks)
            assert expected in said, exchange
            assert not exchange.looks or len(said) <= len(expected) + 2 * len(exchange.looks), exchange
            checked += bool(exchange.looks)
    assert checked >= 5  # copies take the room of some
    assert np.allclose(looks.targets.sum(1), 1)


def test_the_watched_head_is_the_first_of_its_layer(model: Qwen3VLForConditionalGeneration, batch: Batch) -> None:
    """Guards the loss on where answers look: it is nothing for a head that looks there, and reads the real head."""
    layer = model.model.language_model.layers[WATCHED_LAYER].self_attn
    watched = Watched(torch.full((*batch.ids.shape, batch.ids.shape[1]), -1e9))
    assert watched.scores is not None
    columns = np.r_[0, *(slice(start, start + batch.grid.tokens) for start in batch.starts)]
    for row, position, share in zip(batch.looks.rows, batch.looks.positions, batch.looks.targets, strict=True):
        watched.scores[row, position, columns] = torch.from_numpy(share).clamp(min=1e-30).log()
    assert look_loss(watched, batch).item() == pytest.approx(0, abs=1e-5)

    def loss() -> float:
        with torch.no_grad():
            return forward(BatchedVLM(deepcopy(model)), batch, vision_positions(batch.grid))[-1].item()

    before = loss()
    with torch.no_grad():
        layer.q_proj.weight[layer.head_dim :] *= 3  # the other heads
    assert loss() == before
    with torch.no_grad():
        layer.q_proj.weight[: layer.head_dim].neg_()
    assert loss() != before
