"""One training step: forward pass over a batch, three losses, two optimizers; and the state of a run on disk.

The learning rate warms up, stays flat, and falls to zero at the end, so that a later run may continue from a flat
stretch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from training.auxiliary import AuxiliaryHeads
from training.batches import PREFIX, TEXT_ONLY, Batch
from training.checkpoint import save_checkpoint
from training.network import MERGE, PATCH, BatchedVLM, SupervisedHead, VisionPositions, vision_positions
from vlrun.vision.grid import Grid

PEAK_MUON, PEAK_ADAM = 3e-3, 2e-3
WARM_UP_STEPS = 100
HEADS_FIRST_STEPS = 150
"""Steps in which the vision encoder does not learn from the auxiliary losses: new heads would spoil one that is not."""
DECAY_SHARE = 0.5
"""Share of the steps over which the learning rate falls to zero. A short run after a long one may need less."""
AUXILIARY_WEIGHT = 0.4
ATTENTION_LOSS_WEIGHT = 0.3


@dataclass
class TrainingState:
    """Everything that a run needs to continue.

    ``seconds``: the CPU time of its steps by the number of threads, which is how long they take on an idle machine.
    """

    model: BatchedVLM
    auxiliary_heads: AuxiliaryHeads
    optimizers: list[torch.optim.Optimizer]
    seconds: float = 0.0
    step: int = 0


class VisionPositionCache:
    """Vision positions by grid, computed once each."""

    def __init__(self) -> None:
        self._known: dict[Grid, VisionPositions] = {}

    def __getitem__(self, batch: Batch) -> VisionPositions:
        if batch.grid not in self._known:
            self._known[batch.grid] = vision_positions(batch.grid)
        return self._known[batch.grid]


def image_patches(rgb: npt.NDArray[np.uint8], grid: Grid) -> torch.Tensor:
    """Cut images ``[B, H, W, 3]`` uint8 into patches ``[B, N, 768]`` of one frame, normalized to -1..1."""
    g, b = grid, rgb.shape[0]
    blocks = torch.from_numpy(rgb).view(b, g.height // MERGE, MERGE, PATCH, g.width // MERGE, MERGE, PATCH, 3)
    rows = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(b, g.patches, 3 * PATCH**2)
    return rows.float() / 127.5 - 1


def tree_mask(groups: npt.NDArray[np.int64]) -> torch.Tensor:
    """Mask ``[B, 1, T, T]``: a token attends back to its group and, unless that is text only, to the shared prefix."""
    g = torch.from_numpy(groups)
    same = g[:, :, None] == g[:, None, :]
    image = (g[:, None, :] == PREFIX) & (g[:, :, None] < TEXT_ONLY)
    causal = torch.ones(g.shape[1], g.shape[1], dtype=torch.bool).tril()
    return ((same | image) & causal)[:, None]


class ForwardPass(NamedTuple):
    """Logits at the targets, the targets, their weights, the visual tokens, hidden states and the attention loss.

    ``inputs``: the hidden states before the supervised layer.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    visual: torch.Tensor
    inputs: torch.Tensor
    attention: torch.Tensor


def forward(model: BatchedVLM, batch: Batch, positions: VisionPositions) -> ForwardPass:
    """Run the model on a batch."""
    supervised = SupervisedHead()
    patches = image_patches(batch.rgb, batch.grid)
    visual, deep = model.encode(patches.unflatten(0, (-1, 2)) if batch.timeline else patches, positions)
    hidden = model.decode(
        torch.from_numpy(batch.ids),
        torch.from_numpy(batch.positions),
        tree_mask(batch.groups),
        shared(visual, batch),
        [shared(level, batch) for level in deep],
        batch.starts,
        supervised,
    )
    wanted = torch.from_numpy(batch.targets) >= 0
    logits = model.logits(hidden[wanted]).float()
    targets, weights = torch.from_numpy(batch.targets)[wanted], torch.from_numpy(batch.weights)[wanted]
    inputs = hidden if supervised.inputs is None else supervised.inputs
    return ForwardPass(logits, targets, weights, visual, inputs, attention_loss(supervised, batch))


def shared(visual: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Repeat visual rows ``[B / R * P, N, hidden]`` for the R rows that share them."""
    if batch.sharing == 1:
        return visual
    by_row = visual.unflatten(0, (-1, len(batch.starts)))
    return by_row.repeat_interleave(batch.sharing, 0).flatten(0, 1)


def attention_loss(supervised: SupervisedHead, batch: Batch) -> torch.Tensor:
    """KL divergence of the supervised head's attention from its targets, weighted as the answers are."""
    if supervised.scores is None or not len(batch.attention.rows):
        return torch.zeros(())
    rows, positions = torch.from_numpy(batch.attention.rows), torch.from_numpy(batch.attention.positions)
    target = torch.from_numpy(batch.attention.targets)
    weights = torch.from_numpy(batch.weights)[rows, positions]
    log_attention = supervised.scores[rows, positions].log_softmax(-1)
    to_images = [log_attention[:, start : start + batch.grid.tokens] for start in batch.starts]
    log_attention = torch.cat([log_attention[:, :1], *to_images], 1)
    divergence = (torch.xlogy(target, target) - target * log_attention).sum(-1)
    return (divergence * weights).sum() / weights.sum()


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without them, its products take forty times as long as f32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def mixed_precision() -> torch.autocast:
    """Compute in bfloat16 where that is fast."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def make_optimizers(
    model: BatchedVLM, auxiliary_heads: AuxiliaryHeads, *, vision_rate: float = 1.0, heads_rate: float = 1.0
) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices; AdamW for embeddings, vectors and the auxiliary heads.

    PyTorch's Muon computes in bfloat16; where that is slow, AdamW takes its place, with updates of the same size.

    Args:
        model: The model.
        auxiliary_heads: Its auxiliary heads.
        vision_rate: Learning rate of the vision encoder as a part of that of the text model.
        heads_rate: The same of the auxiliary heads.
    """
    inner: dict[str, list[torch.nn.Parameter]] = {"text": [], "vision": []}
    others: dict[str, list[torch.nn.Parameter]] = {"text": [], "vision": []}
    for name, parameter in model.named_parameters():
        kind = inner if parameter.ndim == 2 and "embed" not in name else others
        kind["vision" if ".visual." in name else "text"].append(parameter)
    rates = {"text": 1.0, "vision": vision_rate}
    matrices = [{"params": parameters, "rate": rates[part]} for part, parameters in inner.items()]
    rest = [{"params": parameters, "rate": rates[part]} for part, parameters in others.items()]
    rest.append({"params": list(auxiliary_heads.parameters()), "rate": heads_rate})
    inner_optimizer = (
        torch.optim.Muon(matrices, lr=PEAK_MUON, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        if has_bfloat16()
        else torch.optim.AdamW(matrices, lr=PEAK_MUON, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    )
    return [inner_optimizer, torch.optim.AdamW(rest, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


def freeze_vision(model: BatchedVLM) -> None:
    """Train only the text model; a step takes two thirds of the time."""
    model.model.model.visual.requires_grad_(False)


@dataclass(frozen=True)
class Schedule:
    """When a training ends, and its learning rate as a part of the peak.

    Attributes:
        steps: Length of the training, unless ``seconds`` is given.
        seconds: Its length in time, without evaluations and pauses.
        decay: Share of the training, at its end, in which the learning rate falls to zero.
        peak: The highest learning rate, as a part of that of a training from scratch.
        warm_up: Steps in which the learning rate rises.
    """

    steps: int
    seconds: float | None = None
    decay: float = DECAY_SHARE
    peak: float = 1.0
    warm_up: int = WARM_UP_STEPS

    def left(self, state: TrainingState) -> float:
        """The part of the training that is left."""
        return 1 - (state.step / self.steps if self.seconds is None else state.seconds / self.seconds)

    def factor(self, state: TrainingState) -> float:
        """The learning rate of the next step."""
        return self.peak * min(1.0, (state.step + 1) / self.warm_up, max(self.left(state) / self.decay, 0.0))


def train_step(
    state: TrainingState, batch: Batch, positions: VisionPositions, share: float
) -> tuple[float, float, float]:
    """Update the weights once; returns loss per token, auxiliary loss and attention loss."""
    for optimizer, peak in zip(state.optimizers, (PEAK_MUON, PEAK_ADAM), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share * group["rate"]
    with mixed_precision():
        passed = forward(state.model, batch, positions)
        auxiliary = auxiliary_loss(state, batch, passed)
    losses = F.cross_entropy(passed.logits, passed.targets, reduction="none")
    loss = (losses * passed.weights).sum() / passed.weights.sum()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    (loss + AUXILIARY_WEIGHT * auxiliary + ATTENTION_LOSS_WEIGHT * passed.attention).backward()
    torch.nn.utils.clip_grad_norm_([*state.model.parameters(), *state.auxiliary_heads.parameters()], 1.0)
    for optimizer in state.optimizers:
        optimizer.step()
    return loss.item(), auxiliary.item(), passed.attention.item()


def auxiliary_loss(state: TrainingState, batch: Batch, passed: ForwardPass) -> torch.Tensor:
    """Loss of the auxiliary heads; of those on visual tokens only if the vision encoder is trained."""
    loss = state.auxiliary_heads.timeline(passed.inputs, batch)
    if not passed.visual.requires_grad:
        return loss
    visual = passed.visual.detach() if state.step < HEADS_FIRST_STEPS else passed.visual
    return loss + state.auxiliary_heads(visual, batch)


def save(state: TrainingState, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint folder, and the state from which a run continues."""
    save_checkpoint(state.model.model, tokenizer, out / "checkpoint")
    content = {
        "model": state.model.state_dict(),
        "labels": state.auxiliary_heads.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "seconds": state.seconds,
        "step": state.step,
    }
    torch.save(content, out / "state.part")
    (out / "state.part").replace(out / "state.pt")


def restore(state: TrainingState, path: Path) -> None:
    """Restore what ``save`` wrote."""
    content = torch.load(path, weights_only=True)
    state.model.load_state_dict(content["model"])
    state.auxiliary_heads.load_state_dict(content["labels"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    state.seconds, state.step = content["seconds"], content["step"]
