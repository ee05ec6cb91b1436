"""Trains the tiny model with a loss on answers, one on attention, and one on the content of each visual token.

    python -m training.train OUT [--steps N | --minutes M] [--fall SHARE] [--peak SHARE] [--batch N] [--clips SHARE]
        [--text-only | --vision-rate SHARE] [--resume] [--start MODEL] [--seed S]

``OUT`` holds ``tokenizer.json`` (trained first; an existing one is kept, because changed scenes or questions would
change it), ``checkpoint`` (a Hugging Face folder, replaced every five minutes) and ``state.pt``. ``--resume`` continues
from it with the batches that would have followed; ``--steps`` counts the whole training. The result depends only on the
seed and the number of steps (with ``--minutes`` also on the machine), except for the rounding of multithreaded sums.
SIGTERM (``kill``) ends it after the step, with a checkpoint.
``--minutes`` counts CPU time by the number of threads, so other processes do not shorten a training. ``--start`` begins
with the weights of an INT8 model folder or of a checkpoint. On Linux a thread-caching malloc (tcmalloc by LD_PRELOAD)
makes training 1.5 times faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.auxiliary import AuxiliaryHeads
from training.batches import Batch, Packer, make_batch
from training.easy_vqa import load_easy_vqa
from training.network import BatchedVLM, configuration
from training.quick_evaluation import held_out, quick_scores
from training.restore import load_checkpoint
from training.training_step import (
    DECAY_SHARE,
    WARM_UP_STEPS,
    Schedule,
    TrainingState,
    VisionPositionCache,
    freeze_vision,
    make_optimizers,
    restore,
    save,
    train_step,
)
from training.vocabulary import SPECIAL, train_tokenizer

BATCH = 16
STEPS = 15600
CLIPS = 0.3
"""Share of batches of clips."""
CHECKPOINT_SECONDS = 300
"""Wall time between checkpoints, each of which is evaluated."""
REPORT_STEPS = 50


def produce(
    queue: multiprocessing.Queue[Batch], seed: int, first: int, tokenizer_json: str, images: int, clips: float
) -> None:
    """Produce batches endlessly from number ``first`` on, in a worker process."""
    packer, easy = Packer(Tokenizer.from_str(tokenizer_json)), load_easy_vqa("train")
    for number in itertools.count(first):
        queue.put(make_batch(np.random.default_rng([seed, number]), packer, easy, images, clips=clips))


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
    parser.add_argument("--minutes", type=float, help="length of the training in CPU time, instead of steps")
    parser.add_argument("--peak", type=float, default=1.0, help="part of the highest learning rate (default 1)")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, help="steps with a rising learning rate")
    parser.add_argument(
        "--start", type=Path, help="an INT8 model folder or a checkpoint whose weights the training starts with"
    )
    parser.add_argument("--clips", type=float, default=CLIPS, help=f"share of batches of clips (default {CLIPS})")
    parser.add_argument(
        "--vision-rate", type=float, default=1.0, help="part of the learning rate for the vision encoder (default 1)"
    )
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images per step (default {BATCH})")
    parser.add_argument("--text-only", action="store_true", help="do not train the vision encoder")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/state.pt if it exists")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_or_train_tokenizer(options.out, options.start)
    state = initial_state(tokenizer, options.seed, options.start, options.vision_rate, 1 / options.peak)
    saved = options.out / "state.pt"
    if options.resume and saved.exists():
        restore(state, saved)
    if options.text_only:
        freeze_vision(state.model)
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Batch] = context.Queue(8)
    arguments = (queue, options.seed, state.step, tokenizer.to_str(), options.batch, options.clips)
    worker = context.Process(target=produce, args=arguments, daemon=True)
    worker.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        seconds = options.minutes * 60 if options.minutes else None
        schedule = Schedule(options.steps, seconds, options.decay, options.peak, options.warm_up)
        run(state, queue, tokenizer, options.out, schedule, stop)
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


def initial_state(
    tokenizer: Tokenizer, seed: int, start: Path | None, vision_rate: float, heads_rate: float
) -> TrainingState:
    """Create a model with random weights or those of a model folder, its auxiliary heads and optimizers."""
    torch.manual_seed(seed)
    if start:
        model, _ = load_checkpoint(start)
    else:
        ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        model = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    batched, auxiliary_heads = BatchedVLM(model), AuxiliaryHeads(model.config.text_config.hidden_size)
    optimizers = make_optimizers(batched, auxiliary_heads, vision_rate=vision_rate, heads_rate=heads_rate)
    return TrainingState(batched, auxiliary_heads, optimizers)


def run(
    state: TrainingState,
    queue: multiprocessing.Queue[Batch],
    tokenizer: Tokenizer,
    out: Path,
    schedule: Schedule,
    stop: threading.Event,
) -> None:
    """Train until the schedule ends or ``stop`` is set; save and evaluate regularly."""
    positions, tests = VisionPositionCache(), held_out(tokenizer)
    losses: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    started = last_save = time.monotonic()
    mark = time.process_time()
    while schedule.left(state) > 0 and not stop.is_set():
        batch = queue.get()
        of_clips = batch.timeline is not None
        losses[of_clips].append(train_step(state, batch, positions[batch], schedule.factor(state)))
        state.step += 1
        now = time.process_time()
        state.seconds += (now - mark) / torch.get_num_threads()
        mark = now
        if state.step % REPORT_STEPS == 0:
            _report(state, losses, time.monotonic() - started)
            losses = {False: [], True: []}
        if time.monotonic() - last_save > CHECKPOINT_SECONDS:
            save(state, tokenizer, out)
            print(json.dumps(quick_scores(state.model, tests, tokenizer, positions)), flush=True)
            last_save, mark = time.monotonic(), time.process_time()
    save(state, tokenizer, out)
    if not stop.is_set():
        print(json.dumps(quick_scores(state.model, tests, tokenizer, positions)), flush=True)


def _report(state: TrainingState, losses: dict[bool, list[tuple[float, float, float]]], elapsed: float) -> None:
    """Print the mean losses of images and of clips since the last report."""
    print(f"{state.seconds / 60:6.1f} min ({elapsed / 60:.1f} elapsed)  step {state.step}", end="")
    for of_clips, several in losses.items():
        if several:
            loss, auxiliary, attention = np.mean(several, 0)
            name = "clips" if of_clips else "images"
            print(f"  {name}: loss {loss:.3f}  aux {auxiliary:.3f}  attention {attention:.3f}", end="")
    print(flush=True)


if __name__ == "__main__":
    main()
