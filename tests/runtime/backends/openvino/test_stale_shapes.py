"""After an interrupted inference the next ones give what they gave before.

An answer that was stopped made the next question fail when its prefill had the size of the last complete pass.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
import pytest

from vlrun.backends.openvino import device
from vlrun.backends.openvino.backend import REFERENCE
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import open_device
from vlrun.backends.openvino.stale_shapes import StaleShapes
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.engine.backend import SequenceStep
from vlrun.errors import InferenceCancelled
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

MODEL = ModelFolder(FOLDER)
MANIFEST = MODEL.manifest
ROUNDS = 6


def never() -> bool:
    return False


Infer = Callable[[int, Callable[[], bool]], FloatArray]
"""Runs an inference of a size."""


def open_decoder() -> OpenVINODecoder:
    return OpenVINODecoder(open_device(REFERENCE), MODEL, MANIFEST.text, MANIFEST.vision.deepstack, 2**26, 512)


def decode() -> Infer:
    """Return a prefill of so many tokens."""
    decoder = open_decoder()
    ids = np.random.default_rng(0).integers(0, MANIFEST.text.vocab_size, 512)

    def infer(tokens: int, stopped: Callable[[], bool]) -> FloatArray:
        positions = np.tile(np.arange(tokens), (3, 1))
        blocks = range(1, 1 + -(-tokens // decoder.block_size))
        return decoder.forward([SequenceStep(ids[:tokens], positions, 0, blocks)], stopped)[0].logits

    return infer


def encode() -> Infer:
    """Return the vision encoder for an image of so many rows."""
    encoder = OpenVINOVisionEncoder(open_device(REFERENCE), MODEL, MANIFEST.vision, family_of(MANIFEST))
    pixels = np.random.default_rng(0).normal(size=(1200, 3 * MANIFEST.vision.temporal_patch * MANIFEST.vision.patch**2))

    def infer(rows: int, stopped: Callable[[], bool]) -> FloatArray:
        grid = Grid(2 * (rows // 2), 20, 2)
        return encoder.encode(Patches(pixels[: grid.patches].astype(np.float32), grid), stopped).values

    return infer


def interrupted(infer: Infer, size: int, seconds: float) -> bool:
    """Run an inference and stop it after some time; return whether that was before its end."""
    until = time.monotonic() + seconds
    try:
        infer(size, lambda: time.monotonic() > until)
    except InferenceCancelled:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("make", "sizes"), [(decode, (1, 3, 40, 300)), (encode, (2, 6, 10, 20))])
def test_an_interrupted_inference_changes_no_later_one(
    make: Callable[[], Infer], sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "POLL_MS", 1)
    infer, (*others, longest) = make(), sizes
    expected = {size: infer(size, never) for size in sizes}
    began = time.monotonic()
    infer(longest, never)
    seconds, interruptions = time.monotonic() - began, 0
    for number in range(ROUNDS):
        size = others[number % len(others)]
        infer(size, never)
        interruptions += interrupted(infer, longest, seconds * number / ROUNDS)
        for after in (size, longest):
            np.testing.assert_allclose(infer(after, never), expected[after], atol=1e-4)
    assert interruptions > 1


@pytest.mark.slow
def test_the_repairing_pass_leaves_the_cache_as_it_is() -> None:
    """Its blocks may belong to a stored prefix."""
    decoder = open_decoder()
    decoder.forward([SequenceStep(np.arange(9), np.tile(np.arange(9), (3, 1)), 0, [0])], never)
    content = decoder.read_blocks([0])
    assert content.any()
    decoder._repair_shapes(3)
    np.testing.assert_array_equal(decoder.read_blocks([0]), content)


def test_the_repairing_size_is_neither_that_of_the_last_inference_nor_of_the_interrupted_ones() -> None:
    shapes = StaleShapes()
    with shapes.inference(1, 4):
        pass
    assert shapes.repairing_size() is None
    for sizes, repairing in (((2, 2), 3), ((3,), 5)):
        with contextlib.suppress(InferenceCancelled), shapes.inference(*sizes):
            raise InferenceCancelled
        assert shapes.repairing_size() == repairing
    assert shapes.repairing_size(4) == 8
    with shapes.inference(5):
        pass
    assert shapes.repairing_size() is None
