"""The decoder on ONNX Runtime: chunks, batches, guesses and copied blocks give the logits of one whole pass."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from vlrun import manifest
from vlrun.backends.onnxruntime.decoder import ONNXRuntimeDecoder
from vlrun.engine.backend import PlacedFeatures, SequenceStep
from vlrun.errors import DamagedModel, InferenceCancelled, ModelChanged, OptionError
from vlrun.models.model_folder import ModelFolder
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.vision.features import ImageFeatures

pytestmark = pytest.mark.slow
MIB = 2**20
LENGTH, VISUAL = 75, slice(8, 40)
TOLERANCE = 2e-5


class Prompt:
    """A random prompt with visual tokens, and a block table."""

    def __init__(self, folder: ModelFolder, seed: int, blocks: Sequence[int]) -> None:
        rng, text = np.random.default_rng(seed), folder.manifest.text
        self.ids: IntArray = rng.integers(0, text.vocab_size, LENGTH)
        self.positions: IntArray = np.sort(rng.integers(0, LENGTH, (3, LENGTH)), axis=1)
        shape = (1 + folder.manifest.vision.deepstack, VISUAL.stop - VISUAL.start, text.hidden)
        self.features = rng.normal(size=shape).astype(np.float32)
        self.blocks = blocks

    def step(self, start: int, end: int, rows: int | None = None) -> SequenceStep:
        low, high = max(start, VISUAL.start), min(end, VISUAL.stop)
        values = self.features[:, low - VISUAL.start : high - VISUAL.start]
        images = (PlacedFeatures(low - start, ImageFeatures(values)),) if low < high else ()
        rows = end - start if rows is None else rows
        return SequenceStep(self.ids[start:end], self.positions[:, start:end], start, self.blocks, images, rows)


@pytest.fixture(scope="module")
def folder(onnx_model: Path) -> ModelFolder:
    return ModelFolder(onnx_model)


@pytest.fixture(scope="module")
def decoder(folder: ModelFolder) -> ONNXRuntimeDecoder:
    return ONNXRuntimeDecoder(folder, 1, 4 * MIB)


def run(decoder: ONNXRuntimeDecoder, *steps: SequenceStep) -> list[FloatArray]:
    return [output.logits for output in decoder.forward(steps, lambda: False)]


def test_chunks_batches_and_rollback_give_the_logits_of_a_whole_pass(
    folder: ModelFolder, decoder: ONNXRuntimeDecoder
) -> None:
    """Guards against wrong masks, positions, DeepStack rows, padding and caches in place."""
    one, two = Prompt(folder, 1, [0, 1, 2]), Prompt(folder, 2, [5, 4, 3])
    (whole_one,), (whole_two,) = run(decoder, one.step(0, LENGTH)), run(decoder, two.step(0, LENGTH))
    ends = {0: 0, 1: 0}
    for lengths in ((20, 7), (13, 1), (1, 40), (31, 2), (1, 13), (3, 5), (6, 7)):
        plans = [(prompt, ends[index], lengths[index]) for index, prompt in enumerate((one, two))]
        results = run(decoder, *(prompt.step(start, start + length) for prompt, start, length in plans))
        for index, (result, whole) in enumerate(zip(results, (whole_one, whole_two), strict=True)):
            assert np.abs(result - whole[ends[index] : ends[index] + lengths[index]]).max() < TOLERANCE
            ends[index] += lengths[index]
    assert list(ends.values()) == [LENGTH, LENGTH]
    (again,) = run(decoder, one.step(50, 60))  # guesses were rejected: the cache goes back
    assert np.abs(again - whole_one[50:60]).max() < TOLERANCE
    (last,) = run(decoder, one.step(60, LENGTH, rows=1))
    assert last.shape[0] == 1
    assert np.abs(last - whole_one[-1]).max() < TOLERANCE


def test_a_shared_prefix_gives_the_logits_of_a_whole_pass(folder: ModelFolder, decoder: ONNXRuntimeDecoder) -> None:
    """Guards against a prefix that is lost when another sequence shares it, or that is changed by it."""
    one, two = Prompt(folder, 3, [0, 1, 2]), Prompt(folder, 3, [0, 1, 7])
    (whole,) = run(decoder, one.step(0, LENGTH))
    both = run(decoder, one.step(70, LENGTH), two.step(64, LENGTH))
    assert np.abs(both[0] - whole[70:]).max() < TOLERANCE
    assert np.abs(both[1] - whole[64:]).max() < TOLERANCE


def test_blocks_that_were_read_can_be_written_elsewhere(folder: ModelFolder, decoder: ONNXRuntimeDecoder) -> None:
    """Guards the prefix store on disk."""
    one, other = Prompt(folder, 4, [0, 1, 2]), Prompt(folder, 4, [6, 7, 8])
    (whole,) = run(decoder, one.step(0, LENGTH))
    content = decoder.read_blocks([0, 1])
    assert content.shape == (2, decoder.block_bytes)
    decoder.write_blocks([6, 7], content)
    (rest,) = run(decoder, other.step(64, LENGTH))
    assert np.abs(rest - whole[64:]).max() < TOLERANCE
    assert np.array_equal(decoder.read_blocks([7, 6])[::-1], content)


def test_a_stopped_pass_is_cancelled_and_the_next_one_runs(folder: ModelFolder, decoder: ONNXRuntimeDecoder) -> None:
    """Guards Ctrl+C and closed connections: a pass of a large model takes seconds."""
    prompt = Prompt(folder, 5, [0, 1, 2])
    (whole,) = run(decoder, prompt.step(0, LENGTH))
    with suppress(InferenceCancelled):  # a pass of this small model may end before it asks
        for _ in range(50):
            decoder.forward([prompt.step(0, LENGTH)], lambda: True)
    (again,) = run(decoder, prompt.step(0, LENGTH))
    assert np.abs(again - whole).max() < TOLERANCE


def test_a_cache_smaller_than_a_block_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(OptionError, match="needs at least 1 MiB, the size of one block"):
        ONNXRuntimeDecoder(folder, 1, 1000)


def test_the_cache_stays_within_its_memory(folder: ModelFolder, decoder: ONNXRuntimeDecoder) -> None:
    assert decoder.blocks * decoder.block_bytes <= 4 * MIB * 3 / 4
    assert ONNXRuntimeDecoder(folder, 1, decoder.block_bytes).blocks == 1


def test_a_graph_of_other_dimensions_is_refused(tied_onnx_model: Path, tmp_path: Path) -> None:
    """Guards against a cache of a wrong shape, which the graph would write beyond."""
    copied = shutil.copytree(tied_onnx_model, tmp_path / "copied")
    read = manifest.read(copied)
    manifest.write(dataclasses.replace(read, text=dataclasses.replace(read.text, kv_heads=1)), copied)
    with pytest.raises(DamagedModel, match="does not match its manifest"):
        ONNXRuntimeDecoder(ModelFolder(copied), 1, 4 * MIB)
    (copied / "decoder.onnx").write_bytes(b"no graph" * 10)
    manifest.write(
        dataclasses.replace(
            read, files={**read.files, "decoder.onnx": manifest.describe_file(copied / "decoder.onnx")}
        ),
        copied,
    )
    with pytest.raises(DamagedModel, match=r"ONNX Runtime cannot read 'decoder\.onnx'"):
        ONNXRuntimeDecoder(ModelFolder(copied), 1, 4 * MIB)


def test_weights_that_change_under_a_loaded_model_stop_it(tied_onnx_model: Path, tmp_path: Path) -> None:
    """Guards against wrong answers: the embedding stays mapped to its file."""
    copied = shutil.copytree(tied_onnx_model, tmp_path / "copied")
    folder = ModelFolder(copied)
    decoder = ONNXRuntimeDecoder(folder, 1, 4 * MIB)
    with (copied / "decoder.onnx.data").open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(ModelChanged):
        run(decoder, Prompt(folder, 1, [0, 1, 2]).step(0, 5))
