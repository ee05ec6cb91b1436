"""Tokenizer, batch and model for the tests of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

from training import vocabulary
from training.vocabulary import SPECIAL, train_tokenizer

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

    from training.batches import Batch


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Train a tokenizer on few scenes, which is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "CORPUS_SCENES", 10)
        return train_tokenizer([])


@pytest.fixture(
    scope="session",
    params=["shapes", "pair", "tools", "clip", "text first: shapes", "text first: pair", "text first: clip"],
)
def batch(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> Batch:
    """Build a batch of images with several kinds of questions, of pairs, of images with tools, or of clips."""
    from training import batch_contents
    from training.batches import Packer, make_batch

    domain, text_first = request.param.removeprefix("text first: "), request.param.startswith("text first")
    with pytest.MonkeyPatch.context() as patch:
        for chance in ("SELF_CHANCE", "TURNS_CHANCE"):
            patch.setattr(batch_contents, chance, 1.0)
        patch.setattr(batch_contents, "COPY_CHANCE", 0.0)
        patch.setattr(batch_contents, "LOCATE_CHANCE", 0.0)
        images = 2 if domain in ("shapes", "clip") else 4
        images = 2 * images if text_first else images
        return make_batch(np.random.default_rng(3), Packer(tokenizer), [], images, domain, text_first=text_first)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Qwen3VLForConditionalGeneration:
    """Build a model with random weights, doubled so that every input matters."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from training.network import configuration

    torch.manual_seed(0)
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    made = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return made
