"""The auxiliary heads of training: what stands at each patch, guessed from the visual tokens; dropped afterwards.

Knows tensors and labels; knows neither questions nor the rest of the network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vlrun_export.tiny.batches import Batch
from vlrun_export.tiny.labels import CHARACTERS, PALETTE, THINGS


class PatchGuesses(torch.nn.Module):
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
        guess = self.patches(tokens).unflatten(-1, (4, -1)).flatten(1, 2).float()
        thing, colour, character, box = guess.split(self.sizes, -1)
        loss = F.cross_entropy(self.middles(tokens).float().flatten(0, 1), torch.from_numpy(labels.middles).flatten())
        for logits, truth in ((thing, labels.thing), (colour, labels.colour), (character, labels.character)):
            loss = loss + F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(truth).flatten())
        covered = torch.from_numpy((labels.thing > 0) | (labels.character > 0))
        distance = (box - torch.from_numpy(labels.box)).abs().mean(-1)
        return loss + 4 * (distance * covered).sum() / covered.sum().clamp(min=1)
