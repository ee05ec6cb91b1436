"""One step of learning: forward over a batch, its three losses, both optimizers, and the state of a run on disk.

Learning rate: warm-up, a long flat stretch, and a fall to zero at the end, so that a later run may go on from a flat
stretch. Knows batches and the network; does not know how scenes are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from training.auxiliary import PatchGuesses
from training.batches import ALONE, PREFIX, Batch
from training.checkpoint import save_checkpoint
from training.network import MERGE, PATCH, BatchedVLM, VisionPositions, Watched, vision_positions
from vlrun.vision.grid import Grid

PEAK_MUON, PEAK_ADAM = 3e-3, 2e-3
WARM_UP_STEPS = 100
FALL = 0.5
"""Share of the steps over which the learning rate falls to zero. A short leg behind a long one may want less."""
AUXILIARY_WEIGHT = 0.4
LOOK_WEIGHT = 0.3


@dataclass
class State:
    """All that a run needs to go on."""

    model: BatchedVLM
    guesses: PatchGuesses
    optimizers: list[torch.optim.Optimizer]
    seconds: float = 0.0
    step: int = 0


class Positions:
    """Vision positions by grid, computed once."""

    def __init__(self) -> None:
        self._known: dict[Grid, VisionPositions] = {}

    def __getitem__(self, batch: Batch) -> VisionPositions:
        if batch.grid not in self._known:
            self._known[batch.grid] = vision_positions(batch.grid)
        return self._known[batch.grid]


def patches_of(rgb: npt.NDArray[np.uint8], grid: Grid) -> torch.Tensor:
    """``[B, H, W, 3]`` uint8 to rows ``[B, N, 768]`` of one frame, normalized to -1..1."""
    g, b = grid, rgb.shape[0]
    blocks = torch.from_numpy(rgb).view(b, g.height // MERGE, MERGE, PATCH, g.width // MERGE, MERGE, PATCH, 3)
    rows = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(b, g.patches, 3 * PATCH**2)
    return rows.float() / 127.5 - 1


def tree_mask(groups: npt.NDArray[np.int64]) -> torch.Tensor:
    """``[B, 1, T, T]``: true where a token may look: back, at its group, and at the image if its group sees it."""
    g = torch.from_numpy(groups)
    same = g[:, :, None] == g[:, None, :]
    image = (g[:, None, :] == PREFIX) & (g[:, :, None] < ALONE)
    causal = torch.ones(g.shape[1], g.shape[1], dtype=torch.bool).tril()
    return ((same | image) & causal)[:, None]


def forward(model: BatchedVLM, batch: Batch, positions: VisionPositions) -> tuple[torch.Tensor, ...]:
    """Logits at the targets, the targets, their weights, the visual tokens, and the loss on where answers look."""
    watched = Watched()
    visual, deep = model.encode(patches_of(batch.rgb, batch.grid), positions)
    hidden = model.decode(
        torch.from_numpy(batch.ids),
        torch.from_numpy(batch.positions),
        tree_mask(batch.groups),
        visual,
        deep,
        batch.starts,
        watched,
    )
    wanted = torch.from_numpy(batch.targets) >= 0
    logits = model.logits(hidden[wanted]).float()
    targets, weights = torch.from_numpy(batch.targets)[wanted], torch.from_numpy(batch.weights)[wanted]
    return logits, targets, weights, visual, look_loss(watched, batch)


def look_loss(watched: Watched, batch: Batch) -> torch.Tensor:
    """Divergence of the watched head's attention from where it should look, mean over positions weighted as answers."""
    if watched.scores is None or not len(batch.looks.rows):
        return torch.zeros(())
    rows, positions = torch.from_numpy(batch.looks.rows), torch.from_numpy(batch.looks.positions)
    target = torch.from_numpy(batch.looks.targets)
    weights = torch.from_numpy(batch.weights)[rows, positions]
    attention = watched.scores[rows, positions].log_softmax(-1)
    shown = [attention[:, start : start + batch.grid.tokens] for start in batch.starts]
    attention = torch.cat([attention[:, :1], *shown], 1)
    divergence = (torch.xlogy(target, target) - target * attention).sum(-1)
    return (divergence * weights).sum() / weights.sum()


def make_optimizers(model: BatchedVLM, guesses: PatchGuesses) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings, vectors and the auxiliary heads."""
    matrices: list[torch.nn.Parameter] = []
    rest = list(guesses.parameters())
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name
        (matrices if inner else rest).append(parameter)
    muon = torch.optim.Muon(matrices, lr=PEAK_MUON, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=0.0)]


def freeze_vision(model: BatchedVLM) -> None:
    """Train the text model alone: what it is shown stays as it is, and a step takes two thirds of the time."""
    model.model.model.visual.requires_grad_(False)


def rate(state: State, steps: int, fall: float = FALL) -> float:
    """Share of the peak learning rate, of a training of ``steps``, over whose last share ``fall`` it falls."""
    left = 1 - state.step / steps
    return min(1.0, (state.step + 1) / WARM_UP_STEPS, max(left / fall, 0.0))


def step(state: State, batch: Batch, positions: VisionPositions, share: float) -> tuple[float, float, float]:
    """One update; loss a token, auxiliary loss, and loss on where answers look."""
    for optimizer, peak in zip(state.optimizers, (PEAK_MUON, PEAK_ADAM), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
    with torch.autocast("cpu", torch.bfloat16):
        logits, targets, weights, visual, looking = forward(state.model, batch, positions)
        auxiliary = state.guesses(visual, batch) if visual.requires_grad else torch.zeros(())
    losses = F.cross_entropy(logits, targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    (loss + AUXILIARY_WEIGHT * auxiliary + LOOK_WEIGHT * looking).backward()
    torch.nn.utils.clip_grad_norm_([*state.model.parameters(), *state.guesses.parameters()], 1.0)
    for optimizer in state.optimizers:
        optimizer.step()
    return loss.item(), auxiliary.item(), looking.item()


def save(state: State, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint folder and what is needed to go on."""
    save_checkpoint(state.model.model, tokenizer, out / "checkpoint")
    content = {
        "model": state.model.state_dict(),
        "labels": state.guesses.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "seconds": state.seconds,
        "step": state.step,
    }
    torch.save(content, out / "state.part")
    (out / "state.part").replace(out / "state.pt")


def restore(state: State, path: Path) -> None:
    """Go on from what ``save`` wrote."""
    content = torch.load(path, weights_only=True)
    state.model.load_state_dict(content["model"])
    state.guesses.load_state_dict(content["labels"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    state.seconds, state.step = content["seconds"], content["step"]
