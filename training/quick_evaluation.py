"""Evaluates a checkpoint in torch, without export and runtime: many questions at once, teacher-forced.

    python -m training.quick_evaluation MODEL [--batches N] [--images N] [--only DOMAIN]

``MODEL`` is a checkpoint or an INT8 model folder. A right answer is one that greedy decoding would give.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from training.batches import Batch, Packer, make_batch
from training.easy_vqa import load_easy_vqa
from training.metrics import score_batch
from training.network import BatchedVLM
from training.restore import load_checkpoint
from training.scenes import HELD_OUT_SEED
from training.training_step import VisionPositionCache, forward, mixed_precision

DOMAINS = ("clip", "clip", "clip", "shelf", "shelf", "pair", "shapes", "easy", "tag", "sign", "tools")
TEXT_FIRST = ("clip", "shelf", "tag")
"""Domains of the batches: with the image or clip first, and with the question first."""
IMAGES = 6
"""Images or clips of a batch."""


def held_out(tokenizer: Tokenizer, repeats: int = 1, images: int = IMAGES, only: str = "") -> list[Batch]:
    """Batches which training never uses, of each domain."""
    packer, easy = Packer(tokenizer), load_easy_vqa("test")
    return [
        make_batch(np.random.default_rng([HELD_OUT_SEED, repeat, n]), packer, easy, images, domain, text_first=after)
        for repeat in range(repeats)
        for after, domains in ((False, DOMAINS), (True, TEXT_FIRST))
        for n, domain in enumerate(domains)
        if domain.startswith(only)
    ]


def quick_scores(
    model: BatchedVLM, batches: list[Batch], tokenizer: Tokenizer, positions: VisionPositionCache
) -> dict[str, tuple[float, int]]:
    """Share of right answers and number of questions by task; boxes need an IoU of 0.5."""
    right: dict[str, list[float]] = defaultdict(list)
    model.eval()
    with torch.no_grad(), mixed_precision():
        for batch in batches:
            predicted = forward(model, batch, positions[batch]).logits.argmax(-1).numpy()
            form = "text_first_" if batch.sharing > 1 else ""
            for task, score in score_batch(batch, predicted, tokenizer):
                right[form + task].append(score)
                right["all clips" if batch.timeline else "all images"].append(score)
    model.train()
    return {task: (round(float(np.mean(scores)), 3), len(scores)) for task, scores in sorted(right.items())}


def main() -> None:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(description="Evaluate a checkpoint in torch.")
    parser.add_argument("model", type=Path, help="a checkpoint or an INT8 model folder")
    parser.add_argument("--batches", type=int, default=1, help="how often each domain is drawn (default 1)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"images of a batch (default {IMAGES})")
    parser.add_argument("--only", default="", help="only this domain")
    options = parser.parse_args()
    model, tokenizer = load_checkpoint(options.model)
    batches = held_out(tokenizer, options.batches, options.images, options.only)
    print(json.dumps(quick_scores(BatchedVLM(model), batches, tokenizer, VisionPositionCache()), indent=1))


if __name__ == "__main__":
    main()
