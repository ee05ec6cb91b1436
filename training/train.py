"""Training of the tiny model: a loss on answers, one on where they look, one on what stands at each visual token.

    python -m training.train OUT [--steps N] [--fall SHARE] [--batch N] [--text-only] [--resume]
                                      [--seed S]

``OUT`` holds ``tokenizer.json`` (trained first, or taken as it is if there: a change of scenes or questions would give
another), ``checkpoint`` (a Hugging Face folder, replaced every five minutes) and ``state.pt``, from which ``--resume``
goes on with the very batches that would have followed; ``--steps`` counts the whole training. Everything follows from
the seed and the number of steps, up to the rounding of sums that several threads add up. On Linux a malloc that caches
by thread (tcmalloc by LD_PRELOAD) makes it 1.5 times faster. Knows the order of things; the mathematics is in
``learning``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.auxiliary import PatchGuesses
from training.batches import Batch, Packer, make_batch
from training.easy import load_easy
from training.learning import (
    FALL,
    Positions,
    State,
    forward,
    freeze_vision,
    make_optimizers,
    rate,
    restore,
    save,
    step,
)
from training.network import BatchedVLM, configuration
from training.scenes import HELD_OUT_SEED
from training.scores import score_batch
from training.vocabulary import SPECIAL, train_tokenizer

BATCH = 16
STEPS = 15600
CHECKPOINT_SECONDS = 300


def produce(queue: multiprocessing.Queue[Batch], seed: int, first: int, tokenizer_json: str, images: int) -> None:
    """Worker: batches from number ``first`` on, without end."""
    packer, easy = Packer(Tokenizer.from_str(tokenizer_json)), load_easy("train")
    for number in itertools.count(first):
        queue.put(make_batch(np.random.default_rng([seed, number]), packer, easy, images))


def held_out(tokenizer: Tokenizer) -> list[Batch]:
    """Batches that are never trained on, a few of each domain."""
    packer, easy = Packer(tokenizer), load_easy("test")
    domains = ["shelf", "shelf", "shelf", "pair", "pair", "shapes", "easy", "tag", "sign", "tools"]
    return [
        make_batch(np.random.default_rng(HELD_OUT_SEED + n), packer, easy, BATCH, domain)
        for n, domain in enumerate(domains * 2)
    ]


def evaluate(model: BatchedVLM, batches: list[Batch], tokenizer: Tokenizer, grids: Positions) -> dict[str, float]:
    """Exact match for each task (for places: IoU of at least 0.5), teacher-forced, which equals greedy decoding."""
    right: dict[str, list[float]] = defaultdict(list)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for batch in batches:
            logits, *_ = forward(model, batch, grids[batch])
            for task, score in score_batch(batch, logits.argmax(-1).numpy(), tokenizer):
                right[task].append(score)
    model.train()
    return {task: round(float(np.mean(scores)), 3) for task, scores in sorted(right.items())}


def main() -> None:
    """Train for some minutes and leave a checkpoint folder."""
    parser = argparse.ArgumentParser(description="Train the tiny model.")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"length of the whole training (default {STEPS})")
    parser.add_argument("--fall", type=float, default=FALL, help=f"share with a falling learning rate (default {FALL})")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"pictures a step (default {BATCH})")
    parser.add_argument("--text-only", action="store_true", help="leave the vision encoder as it is")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt if it is there")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(options.out)
    state = new_state(tokenizer, options.seed)
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
        run(state, queue, tokenizer, options.out, options.steps, options.fall)
    finally:
        worker.terminate()


def tokenizer_of(out: Path) -> Tokenizer:
    """The run's own tokenizer, trained now if there is none yet."""
    path = out / "tokenizer.json"
    if not path.exists():
        train_tokenizer([e.question for p in load_easy("train") for e in p.exchanges]).save(str(path))
    return Tokenizer.from_file(str(path))


def new_state(tokenizer: Tokenizer, seed: int) -> State:
    """A model with random weights, and all that training needs."""
    torch.manual_seed(seed)
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    model = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    batched, guesses = BatchedVLM(model), PatchGuesses(model.config.text_config.hidden_size)
    return State(batched, guesses, make_optimizers(batched, guesses))


def run(
    state: State, queue: multiprocessing.Queue[Batch], tokenizer: Tokenizer, out: Path, steps: int, fall: float
) -> None:
    """The loop: train until ``steps`` are done, save and score now and then."""
    grids, tests = Positions(), held_out(tokenizer)
    losses: list[tuple[float, float, float]] = []
    mark = last_save = time.monotonic()
    while state.step < steps:
        batch = queue.get()
        losses.append(step(state, batch, grids[batch], rate(state, steps, fall)))
        state.step += 1
        now = time.monotonic()
        state.seconds += now - mark
        mark = now
        if state.step % 100 == 0:
            loss, auxiliary, looking = np.mean(losses[-100:], 0)
            speed = BATCH * state.step / state.seconds
            print(
                f"{state.seconds / 60:6.1f} min  step {state.step}  loss {loss:.3f}  aux {auxiliary:.3f}  "
                f"look {looking:.3f}  {speed:.0f} pictures/s",
                flush=True,
            )
        if now - last_save > CHECKPOINT_SECONDS:
            save(state, tokenizer, out)
            print(json.dumps(evaluate(state.model, tests, tokenizer, grids)), flush=True)
            last_save = mark = time.monotonic()
    save(state, tokenizer, out)
    print(json.dumps(evaluate(state.model, tests, tokenizer, grids)), flush=True)


if __name__ == "__main__":
    main()
