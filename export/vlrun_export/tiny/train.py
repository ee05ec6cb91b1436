"""Training of the tiny model: one loss on answers, one (dropped afterwards) on what stands at each visual token.

    python -m vlrun_export.tiny.train OUT [--minutes N] [--resume]

Learning rate: warm-up, a long flat stretch, and a fall to zero over the last quarter, so that ``--resume`` may go on from
a flat stretch. Knows batches and the network; does not know how scenes are drawn.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from vlrun_export.tiny.batches import CHARACTERS, PALETTE, THINGS, Batch, EasyPicture, Packer, make_batch
from vlrun_export.tiny.checkpoint import save_checkpoint
from vlrun_export.tiny.easy import load_easy
from vlrun_export.tiny.network import BatchedVLM, VisionPositions, configuration, vision_positions
from vlrun_export.tiny.scores import score_batch
from vlrun_export.tiny.vocabulary import SPECIAL, train_tokenizer

BATCH = 16
PEAK_MUON, PEAK_ADAM = 3e-3, 2e-3
WARM_UP_STEPS = 100
FALL = 0.25
"""Share of the time over which the learning rate falls to zero."""
AUXILIARY_WEIGHT = 0.4
CHECKPOINT_SECONDS = 300
HELD_OUT_SEED = 10**9
"""Seeds from here on are never trained on."""


class Labels(torch.nn.Module):
    """Auxiliary heads behind the merger: kind, colour and character of each of a token's four patches, the edges of
    the thing there, and how many things have their middle in the token.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = (len(THINGS), len(PALETTE), len(CHARACTERS), 4)
        self.patches = torch.nn.Linear(hidden, 4 * sum(self.sizes))
        self.middles = torch.nn.Linear(hidden, 3)

    def forward(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The auxiliary loss of visual tokens ``[B, N / 4, hidden]``."""
        labels = batch.labels
        assert labels is not None
        guess = self.patches(tokens).unflatten(-1, (4, -1)).flatten(1, 2).float()
        thing, colour, character, box = guess.split(self.sizes, -1)
        loss = F.cross_entropy(self.middles(tokens).float().flatten(0, 1), torch.from_numpy(labels.middles).flatten())
        for logits, truth in ((thing, labels.thing), (colour, labels.colour), (character, labels.character)):
            loss = loss + F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(truth).flatten())
        covered = torch.from_numpy((labels.thing > 0) | (labels.character > 0))
        distance = (box - torch.from_numpy(labels.box)).abs().mean(-1)
        return loss + 4 * (distance * covered).sum() / covered.sum().clamp(min=1)


@dataclass
class State:
    """All that a run needs to go on."""

    model: BatchedVLM
    labels: Labels
    optimizers: list[torch.optim.Optimizer]
    seconds: float = 0.0
    step: int = 0


def patches_of(rgb: np.ndarray, batch: Batch) -> torch.Tensor:
    """``[B, H, W, 3]`` uint8 to rows ``[B, N, 768]`` of one frame, normalized to -1..1."""
    g = batch.grid
    b = rgb.shape[0]
    blocks = torch.from_numpy(rgb).view(b, g.height // 2, 2, 16, g.width // 2, 2, 16, 3)
    rows = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(b, g.patches, 768)
    return rows.float() / 127.5 - 1


def tree_mask(groups: np.ndarray) -> torch.Tensor:
    """``[B, 1, T, T]``: true where a token may look: back, at its own group, and at the picture unless it stands alone."""
    g = torch.from_numpy(groups)
    same = g[:, :, None] == g[:, None, :]
    picture = (g[:, None, :] == 0) & (g[:, :, None] < 1000)
    causal = torch.ones(g.shape[1], g.shape[1], dtype=torch.bool).tril()
    return ((same | picture) & causal)[:, None]


def forward(model: BatchedVLM, batch: Batch, positions: VisionPositions) -> tuple[torch.Tensor, ...]:
    """Logits at the targets, the targets, their weights, and the visual tokens."""
    visual, deep = model.encode(patches_of(batch.rgb, batch), positions)
    hidden = model.decode(
        torch.from_numpy(batch.ids), torch.from_numpy(batch.positions), tree_mask(batch.groups), visual, deep, batch.start
    )
    wanted = torch.from_numpy(batch.targets) >= 0
    logits = model.logits(hidden[wanted]).float()
    return logits, torch.from_numpy(batch.targets)[wanted], torch.from_numpy(batch.weights)[wanted], visual


def make_optimizers(model: BatchedVLM, labels: Labels) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings, vectors and the auxiliary heads."""
    matrices, rest = [], list(labels.parameters())
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name
        (matrices if inner else rest).append(parameter)
    muon = torch.optim.Muon(matrices, lr=PEAK_MUON, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=0.0)]


def rate(state: State, total: float) -> float:
    """Share of the peak learning rate."""
    left = 1 - state.seconds / total
    return min(1.0, (state.step + 1) / WARM_UP_STEPS, max(left / FALL, 0.0))


def produce(queue: "multiprocessing.Queue[Batch]", seed: int, tokenizer_json: str) -> None:
    """Worker: batches without end."""
    packer, easy = Packer(Tokenizer.from_str(tokenizer_json)), load_easy("train")
    for number in range(10**9):
        queue.put(make_batch(np.random.default_rng([seed, number]), packer, easy, BATCH))


def held_out(tokenizer: Tokenizer) -> list[Batch]:
    """Batches that are never trained on, a few of each domain."""
    packer, easy = Packer(tokenizer), load_easy("test")
    domains = ["shelf", "shelf", "shelf", "shelf", "shapes", "easy", "tag", "sign"]
    return [
        make_batch(np.random.default_rng(HELD_OUT_SEED + n), packer, easy, BATCH, domain)
        for n, domain in enumerate(domains * 2)
    ]


def evaluate(model: BatchedVLM, batches: list[Batch], tokenizer: Tokenizer, grids: "Positions") -> dict[str, float]:
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


class Positions:
    """Vision positions by grid, computed once."""

    def __init__(self) -> None:
        self._known: dict[object, VisionPositions] = {}

    def __getitem__(self, batch: Batch) -> VisionPositions:
        if batch.grid not in self._known:
            self._known[batch.grid] = vision_positions(batch.grid)
        return self._known[batch.grid]


def step(state: State, batch: Batch, positions: VisionPositions, share: float) -> tuple[float, float]:
    """One update; loss a token and auxiliary loss."""
    for optimizer, peak in zip(state.optimizers, (PEAK_MUON, PEAK_ADAM), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
    with torch.autocast("cpu", torch.bfloat16):
        logits, targets, weights, visual = forward(state.model, batch, positions)
        auxiliary = state.labels(visual, batch)
    losses = F.cross_entropy(logits, targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    (loss + AUXILIARY_WEIGHT * auxiliary).backward()
    torch.nn.utils.clip_grad_norm_([*state.model.parameters(), *state.labels.parameters()], 1.0)
    for optimizer in state.optimizers:
        optimizer.step()
    return loss.item(), auxiliary.item()


def main() -> None:
    """Train for some minutes and leave a checkpoint folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    tokenizer_path = options.out / "tokenizer.json"
    if not tokenizer_path.exists():
        train_tokenizer([e.question for p in load_easy("train") for e in p.exchanges]).save(str(tokenizer_path))
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    model = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    batched, labels = BatchedVLM(model), Labels(256)
    state = State(batched, labels, make_optimizers(batched, labels))
    saved = options.out / "state.pt"
    if options.resume and saved.exists():
        restore(state, saved)
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Batch] = context.Queue(8)
    worker = context.Process(
        target=produce, args=(queue, options.seed + 1000 * state.step, tokenizer.to_str()), daemon=True
    )
    worker.start()
    try:
        run(state, queue, tokenizer, options.out, options.minutes * 60)
    finally:
        worker.terminate()


def run(state: State, queue: "multiprocessing.Queue[Batch]", tokenizer: Tokenizer, out: Path, total: float) -> None:
    """The loop: train until ``total`` seconds are used, save and score now and then."""
    grids, tests = Positions(), held_out(tokenizer)
    losses: list[tuple[float, float]] = []
    mark = last_save = time.monotonic()
    while state.seconds < total:
        batch = queue.get()
        losses.append(step(state, batch, grids[batch], rate(state, total)))
        state.step += 1
        now = time.monotonic()
        state.seconds += now - mark
        mark = now
        if state.step % 100 == 0:
            loss, auxiliary = np.mean(losses[-100:], 0)
            speed = BATCH * state.step / state.seconds
            print(f"{state.seconds / 60:6.1f} min  step {state.step}  loss {loss:.3f}  aux {auxiliary:.3f}  "
                  f"{speed:.0f} pictures/s", flush=True)
        if now - last_save > CHECKPOINT_SECONDS:
            save(state, tokenizer, out)
            print(json.dumps(evaluate(state.model, tests, tokenizer, grids)), flush=True)
            last_save = mark = time.monotonic()
    save(state, tokenizer, out)
    print(json.dumps(evaluate(state.model, tests, tokenizer, grids)), flush=True)


def save(state: State, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint folder and what is needed to go on."""
    save_checkpoint(state.model.model, tokenizer, out / "checkpoint")
    content = {
        "model": state.model.state_dict(),
        "labels": state.labels.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "seconds": state.seconds,
        "step": state.step,
    }
    torch.save(content, out / "state.part")
    os.replace(out / "state.part", out / "state.pt")


def restore(state: State, path: Path) -> None:
    """Go on from what ``save`` wrote."""
    content = torch.load(path, weights_only=True)
    state.model.load_state_dict(content["model"])
    state.labels.load_state_dict(content["labels"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    state.seconds, state.step = content["seconds"], content["step"]


if __name__ == "__main__":
    main()
