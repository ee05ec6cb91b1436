"""Auxiliary heads that predict the content of each patch from the visual tokens; dropped after training."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from training.batches import Batch
from training.labels import CHARACTERS, PALETTE, PLACES, THINGS

EDGE_DIGITS = 8
"""Four edges with two digits each: answers give coordinates in tens of 0..1000."""


class AuxiliaryHeads(torch.nn.Module):
    """Linear heads on the merged visual tokens.

    For each of a token's four patches they predict the kind, colour, character and its place in the text, and the edges
    of the item (as numbers, and as the digits that an answer spells out); for the token, how many items are centred in
    it.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = (len(THINGS), len(PALETTE), len(CHARACTERS), PLACES, 4)
        self.patches = torch.nn.Linear(hidden, 4 * sum(self.sizes))
        self.middles = torch.nn.Linear(hidden, 3)
        self.edges = torch.nn.Linear(hidden, 4 * EDGE_DIGITS * 10)

    def forward(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Auxiliary loss of visual tokens ``[B, N / 4, hidden]``."""
        labels = batch.labels
        predicted = self.patches(tokens).unflatten(-1, (4, -1)).flatten(1, 2).float()
        thing, colour, character, place, box = predicted.split(self.sizes, -1)
        loss = F.cross_entropy(self.middles(tokens).float().flatten(0, 1), torch.from_numpy(labels.middles).flatten())
        truths = (labels.thing, labels.colour, labels.character, labels.place)
        for logits, truth in zip((thing, colour, character, place), truths, strict=True):
            loss = loss + F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(truth).flatten())
        covered = torch.from_numpy((labels.thing > 0) | (labels.character > 0))
        digits = self.edges(tokens).float().unflatten(-1, (4, EDGE_DIGITS, 10)).flatten(1, 2)[covered]
        spelled = edge_digits(torch.from_numpy(labels.box)[covered])
        loss = loss + F.cross_entropy(digits.flatten(0, 1), spelled.flatten())
        distance = (box - torch.from_numpy(labels.box)).abs().mean(-1)
        return loss + 4 * (distance * covered).sum() / covered.sum().clamp(min=1)


def edge_digits(box: torch.Tensor) -> torch.Tensor:
    """First and second decimal digit of each edge: ``[..., 4]`` in 0..1 to ``[..., 8]``."""
    hundredths = (box * 100).round().clamp(0, 99).long()
    return torch.cat([hundredths // 10, hundredths % 10], -1)
