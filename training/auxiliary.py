"""Auxiliary heads that predict what each visual token shows and what happens there; dropped after training."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from training.batches import Batch
from training.clips import CHANGES
from training.labels import CHARACTERS, PALETTE, PLACES, THINGS, PatchLabels

EDGE_DIGITS = 8
"""Four edges with two digits each: answers give coordinates in tens of 0..1000."""
TIME_DIGITS = 3
"""Tens, ones and tenths of seconds."""
CHANGE_WEIGHT = 6.0
"""Weight of visual tokens where something happens: they are rare."""


class AuxiliaryHeads(torch.nn.Module):
    """Linear heads on the merged visual tokens.

    For each of a token's four patches they predict the kind, colour, character and its place in the text, and the edges
    of the item (as numbers, and as the digits that an answer spells out); for the token, how many items are centred in
    it. For a frame pair all that is about the second frame; the kind and colour in the first one are predicted too. In
    clips, the hidden states of the visual tokens inside the decoder predict when the pair was and what happens.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = (len(THINGS), len(PALETTE), len(CHARACTERS), PLACES, 4)
        self.patches = torch.nn.Linear(hidden, 4 * sum(self.sizes))
        self.middles = torch.nn.Linear(hidden, 3)
        self.edges = torch.nn.Linear(hidden, 4 * EDGE_DIGITS * 10)
        self.before = torch.nn.Linear(hidden, 4 * sum(self.sizes[:2]))
        self.times = torch.nn.Linear(hidden, TIME_DIGITS * 10)
        self.changes = torch.nn.Linear(hidden, 1 + len(CHANGES))

    def forward(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Auxiliary loss of visual tokens ``[B, N / 4, hidden]``."""
        first, labels = batch.labels, batch.labels
        if batch.timeline:
            first, labels = labels.every_second(0), labels.every_second(1)
        predicted = self.patches(tokens).unflatten(-1, (4, -1)).flatten(1, 2).float()
        thing, colour, character, place, box = predicted.split(self.sizes, -1)
        loss = F.cross_entropy(self.middles(tokens).float().flatten(0, 1), torch.from_numpy(labels.middles).flatten())
        truths = (labels.thing, labels.colour, labels.character, labels.place)
        for logits, truth in zip((thing, colour, character, place), truths, strict=True):
            loss = loss + F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(truth).flatten())
        covered = torch.from_numpy((labels.thing > 0) | (labels.character > 0))
        digits = self.edges(tokens).float().unflatten(-1, (4, EDGE_DIGITS, 10)).flatten(1, 2)[covered]
        spelled = edge_digits(torch.from_numpy(labels.box)[covered])
        loss = loss + F.cross_entropy(digits.flatten(0, 1), spelled.flatten()) + self._before(tokens, first)
        distance = (box - torch.from_numpy(labels.box)).abs().mean(-1)
        return loss + 4 * (distance * covered).sum() / covered.sum().clamp(min=1)

    def _before(self, tokens: torch.Tensor, labels: PatchLabels) -> torch.Tensor:
        """Loss of the kind and colour in the first frame."""
        predicted = self.before(tokens).unflatten(-1, (4, -1)).flatten(1, 2).float()
        parts = zip(predicted.split(self.sizes[:2], -1), (labels.thing, labels.colour), strict=True)
        losses = [F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(truth).flatten()) for logits, truth in parts]
        return losses[0] + losses[1]

    def timeline(self, inputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss of times and changes, from the decoder's hidden states ``[B, T, hidden]``; zero without clips."""
        if not batch.timeline:
            return torch.zeros(())
        size = batch.grid.tokens
        visual = torch.cat([inputs[:, start : start + size] for start in batch.starts], 1)
        visual = F.layer_norm(visual, visual.shape[-1:])  # hidden states grow from layer to layer
        digits = torch.from_numpy(batch.timeline.digits).repeat_interleave(size, 0).expand(len(inputs), -1, -1)
        times = self.times(visual).unflatten(-1, (TIME_DIGITS, 10)).float()
        changes = self.changes(visual).float()
        weights = torch.tensor([1.0] + [CHANGE_WEIGHT] * len(CHANGES))
        truth = torch.from_numpy(batch.timeline.changes).flatten()
        loss = F.cross_entropy(times.flatten(0, 2), digits.flatten())
        return loss + F.cross_entropy(changes.flatten(0, 1), truth, weights)


def edge_digits(box: torch.Tensor) -> torch.Tensor:
    """First and second decimal digit of each edge: ``[..., 4]`` in 0..1 to ``[..., 8]``."""
    hundredths = (box * 100).round().clamp(0, 99).long()
    return torch.cat([hundredths // 10, hundredths % 10], -1)
