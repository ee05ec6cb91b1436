"""A small multimodal probe of a device: two images through the vision encoder, and a prompt through the decoder.

The decoder's part does what serving does: prefill in chunks across blocks and an image, decode steps, guessed tokens
that are rejected and overwritten, and two sequences in one pass. The passes have few different sizes, because a GPU
compiles kernels for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlrun.engine.backend import Decoder, PlacedFeatures, SequenceStep
from vlrun.errors import OptionError
from vlrun.manifest import Manifest
from vlrun.models.registry import family_of
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches, VisionEncoder

SIDES = ((2, 3), (4, 5))
"""Rows and columns of the images in visual tokens. Two sizes, because plugins failed only where shapes are dynamic."""
TEXT_TOKENS = 8
"""Tokens before and after the image."""
DECODED, GUESSED, REJECTED = 4, 3, 2
"""Decode steps; then tokens guessed at once, and how many of them are rejected."""
CACHE_TOKENS = 128
"""Tokens of cache that suffice in blocks of up to 32 tokens: the sequence, and a block of the other."""


@dataclass(frozen=True)
class ProbeResult:
    """What a device computed: features of each image, and logits of each pass of the decoder."""

    features: tuple[FloatArray, ...]
    logits: tuple[FloatArray, ...]


class DeviceProbe:
    """The probe's inputs for a model; the same at every call."""

    def __init__(self, manifest: Manifest) -> None:
        random = np.random.default_rng(0)
        vision, merge = manifest.vision, manifest.vision.merge
        values = 3 * vision.temporal_patch * vision.patch**2
        self._images = []
        for rows, columns in SIDES:
            grid = Grid(rows * merge, columns * merge, merge)
            pixels = random.uniform(-1, 1, (grid.patches, values)).astype(np.float32)
            self._images.append(Patches(pixels, grid))
        grid = self._images[-1].grid
        self._image_end = TEXT_TOKENS + grid.tokens
        self._prompt = self._image_end + TEXT_TOKENS
        length = self._prompt + DECODED + GUESSED
        self._ids: IntArray = random.integers(0, manifest.text.vocab_size, length)
        self._ids[TEXT_TOKENS : self._image_end] = manifest.tokens.image
        self._positions = family_of(manifest).token_positions(length, [(TEXT_TOKENS, grid)])

    def encode(self, encoder: VisionEncoder) -> tuple[FloatArray, ...]:
        """Return the features of each image."""
        return tuple(encoder.encode(patches, lambda: False).values for patches in self._images)

    def decode(self, decoder: Decoder, features: FloatArray) -> tuple[FloatArray, ...]:
        """Return the logits of each pass, given the features of the last image.

        Raises OptionError if the KV cache is too small.
        """
        size, half = decoder.block_size, self._prompt // 2
        own, others = -(-len(self._ids) // size), -(-(half - 1) // size)
        if decoder.blocks < own + others:
            mib = -(-(own + others) * decoder.block_bytes // 2**20)
            raise OptionError(f"the KV cache needs at least {mib} MiB to check this device: raise kv_memory")
        table, other, image = range(own), range(own, own + others), ImageFeatures(features)
        passes = [[self._step(0, half, table, image)], [self._step(half, self._prompt, table, image)]]
        guessed = self._prompt + DECODED
        passes += [[self._step(at, at + 1, table)] for at in range(self._prompt, guessed)]
        passes.append([self._step(guessed, guessed + GUESSED, table)])
        kept = guessed + GUESSED - REJECTED
        passes.append([self._step(kept, kept + 1, table), self._step(0, half - 1, other, image, TEXT_TOKENS - 1)])
        return tuple(output.logits for steps in passes for output in decoder.forward(steps, lambda: False))

    def _step(
        self,
        start: int,
        end: int,
        blocks: Sequence[int],
        image: ImageFeatures | None = None,
        max_rows: int = TEXT_TOKENS,
    ) -> SequenceStep:
        """Return tokens ``start .. end`` with the logits of the last ones."""
        placed: tuple[PlacedFeatures, ...] = ()
        first, last = max(start, TEXT_TOKENS), min(end, self._image_end)
        if image and first < last:
            placed = (PlacedFeatures(first - start, image.slice(first - TEXT_TOKENS, last - TEXT_TOKENS)),)
        rows = min(end - start, max_rows)
        return SequenceStep(self._ids[start:end], self._positions[:, start:end], start, blocks, placed, rows)


def similarity(results: Sequence[FloatArray], expected: Sequence[FloatArray]) -> float:
    """Return the lowest correlation of any row with the expected one: 1 if all are equal, 0 if one is not finite.

    Rows lie on the last axis. A constant offset and a factor do not count.
    """
    lowest = 1.0
    for found, wanted in zip(results, expected, strict=True):
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return 0.0
        centred = [values.astype(np.float64) - values.mean(-1, keepdims=True) for values in (found, wanted)]
        products = (centred[0] * centred[1]).sum(-1)
        norms = np.sqrt(np.prod([(values**2).sum(-1) for values in centred], axis=0))
        lowest = min(lowest, float(np.min(products / np.maximum(norms, np.finfo(np.float64).tiny))))
    return lowest
