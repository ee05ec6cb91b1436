"""Trains the tiny model with a loss on answers, one on attention, and one on the content of each visual token.

    python -m training.train OUT [--steps N | --minutes M] [--fall SHARE] [--peak SHARE] [--batch N] [--text-only]
        [--resume] [--start MODEL] [--seed S]

``OUT`` holds ``tokenizer.json`` (trained first; an existing one is kept, because changed scenes or questions would
change it), ``checkpoint`` (a Hugging Face folder, replaced every five minutes) and ``state.pt``. ``--resume`` continues
from it with the batches that would have followed; ``--steps`` counts the whole training. The result depends only on the
seed and the number of steps (with ``--minutes`` also on the machine), except for the rounding of multithreaded sums.
``--start`` begins with the weights of an INT8 model folder. On Linux a thread-caching malloc
(tcmalloc by LD_PRELOAD) makes training 1.5 times faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.auxiliary import AuxiliaryHeads
from training.batches import Batch, Packer, make_batch
from training.easy_vqa import load_easy_vqa
from training.metrics import score_batch
from training.network import BatchedVLM, configuration
from training.restore import load_checkpoint
from training.scenes import HELD_OUT_SEED
from training.training_step import (
    DECAY_SHARE,
    WARM_UP_STEPS,
    Schedule,
    TrainingState,
    VisionPositionCache,
    forward,
    freeze_vision,
    make_optimizers,
    mixed_precision,
    restore,
    save,
    train_step,
)
from training.vocabulary import SPECIAL, train_tokenizer

BATCH = 16
STEPS = 15600
CHECKPOINT_SECONDS = 300
EVALUATE_EVERY = 3
"""Every n-th checkpoint is evaluated, and the last one."""


def produce(queue: multiprocessing.Queue[Batch], seed: int, first: int, tokenizer_json: str, images: int) -> None:
    """Produce batches endlessly from number ``first`` on, in a worker process."""
    packer, easy = Packer(Tokenizer.from_str(tokenizer_json)), load_easy_vqa("train")
    for number in itertools.count(first):
        queue.put(make_batch(np.random.default_rng([seed, number]), packer, easy, images))


def held_out(tokenizer: Tokenizer) -> list[Batch]:
    """Batches for evaluation, a few of each domain, which training never uses."""
    packer, easy = Packer(tokenizer), load_easy_vqa("test")
    domains = ["shelf", "shelf", "shelf", "pair", "pair", "shapes", "easy", "tag", "sign", "tools"]
    return [
        make_batch(np.random.default_rng(HELD_OUT_SEED + n), packer, easy, BATCH // 2, domain, text_first=text_first)
        for text_first in (False, True)
        for n, domain in enumerate(domains)
    ]


def evaluate(
    model: BatchedVLM, batches: list[Batch], tokenizer: Tokenizer, positions: VisionPositionCache
) -> dict[str, float]:
    """Share of right answers by task, teacher-forced, which equals greedy decoding; boxes need an IoU of 0.5."""
    right: dict[str, list[float]] = defaultdict(list)
    model.eval()
    with torch.no_grad(), mixed_precision():
        for batch in batches:
            logits, *_ = forward(model, batch, positions[batch])
            form = "text_first_" if batch.sharing > 1 else ""
            for task, score in score_batch(batch, logits.argmax(-1).numpy(), tokenizer):
                right[form + task].append(score)
    model.train()
    return {task: round(float(np.mean(scores)), 3) for task, scores in sorted(right.items())}


def main() -> None:
    """Train and write a checkpoint folder."""
    parser = argparse.ArgumentParser(description="Train the tiny model.")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"length of the whole training (default {STEPS})")
    parser.add_argument(
        "--fall",
        dest="decay",
        type=float,
        default=DECAY_SHARE,
        help=f"share of the steps with a falling learning rate (default {DECAY_SHARE})",
    )
    parser.add_argument("--minutes", type=float, help="length of the training in time, instead of steps")
    parser.add_argument("--peak", type=float, default=1.0, help="part of the highest learning rate (default 1)")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, help="steps with a rising learning rate")
    parser.add_argument("--start", type=Path, help="an INT8 model folder whose weights the training starts with")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images per step (default {BATCH})")
    parser.add_argument("--text-only", action="store_true", help="do not train the vision encoder")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/state.pt if it exists")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_or_train_tokenizer(options.out, options.start)
    state = initial_state(tokenizer, options.seed, options.start)
    saved = options.out / "state.pt"
    if options.resume and saved.exists():
        restore(state, saved)
    if options.text_only:
        freeze_vision(state.model)
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Batch] = context.Queue(8)
    arguments = (queue, options.seed, state.step, tokenizer.to_str(), options.batch)
    worker = context.Process(target=produce, args=arguments, daemon=True)
    worker.start()
    try:
        seconds = options.minutes * 60 if options.minutes else None
        schedule = Schedule(options.steps, seconds, options.decay, options.peak, options.warm_up)
        run(state, queue, tokenizer, options.out, schedule)
    finally:
        worker.terminate()


def load_or_train_tokenizer(out: Path, start: Path | None) -> Tokenizer:
    """Load the tokenizer of the run or of the model that it starts with, or train it if there is none."""
    path = out / "tokenizer.json"
    if start:
        shutil.copy(start / "tokenizer.json", path)
    if not path.exists():
        train_tokenizer([e.question for p in load_easy_vqa("train") for e in p.qa_pairs]).save(str(path))
    return Tokenizer.from_file(str(path))


def initial_state(tokenizer: Tokenizer, seed: int, start: Path | None) -> TrainingState:
    """Create a model with random weights or those of a model folder, its auxiliary heads and optimizers."""
    torch.manual_seed(seed)
    if start:
        model, _ = load_checkpoint(start)
    else:
        ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        model = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    batched, auxiliary_heads = BatchedVLM(model), AuxiliaryHeads(model.config.text_config.hidden_size)
    return TrainingState(batched, auxiliary_heads, make_optimizers(batched, auxiliary_heads))


def run(
    state: TrainingState, queue: multiprocessing.Queue[Batch], tokenizer: Tokenizer, out: Path, schedule: Schedule
) -> None:
    """Train until the schedule ends; save and evaluate regularly."""
    positions, tests = VisionPositionCache(), held_out(tokenizer)
    losses: list[tuple[float, float, float]] = []
    mark = last_save = time.monotonic()
    saves = 0
    while schedule.left(state) > 0:
        batch = queue.get()
        losses.append(train_step(state, batch, positions[batch], schedule.factor(state)))
        state.step += 1
        now = time.monotonic()
        state.seconds += now - mark
        mark = now
        if state.step % 100 == 0:
            loss, auxiliary, attention = np.mean(losses[-100:], 0)
            speed = BATCH * state.step / state.seconds
            print(
                f"{state.seconds / 60:6.1f} min  step {state.step}  loss {loss:.3f}  aux {auxiliary:.3f}  "
                f"attention {attention:.3f}  {speed:.0f} images/s",
                flush=True,
            )
        if now - last_save > CHECKPOINT_SECONDS:
            save(state, tokenizer, out)
            saves += 1
            if saves % EVALUATE_EVERY == 0:
                print(json.dumps(evaluate(state.model, tests, tokenizer, positions)), flush=True)
            last_save = mark = time.monotonic()
    save(state, tokenizer, out)
    print(json.dumps(evaluate(state.model, tests, tokenizer, positions)), flush=True)


if __name__ == "__main__":
    main()
