"""Runs vision encoder, decoder and compile cache on the GPU and compares them with the CPU.

``course.py OUT PRECISION`` is a process of its own, with the environment of the simulated GPU. It writes an ``Outcome``
as JSON to OUT, and compiled models to the cache folder, where a later vlrun finds them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import openvino as ov

from vlrun.backends.openvino import decoder as decoders
from vlrun.backends.openvino.backend import REFERENCE
from vlrun.backends.openvino.cache_memory import CacheMemory
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, open_device, runtime_of
from vlrun.backends.openvino.device_probe import DeviceProbe, similarity
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.engine.backend import PlacedFeatures, SequenceStep
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.storage import cache_paths
from vlrun.types.arrays import FloatArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

MODEL = ModelFolder(FOLDER)
MANIFEST = MODEL.manifest
FAMILY = family_of(MANIFEST)
GRIDS = (Grid(4, 6, 2), Grid(8, 10, 2))
STATIC = GRIDS[0]
LENGTH, IMAGE_START = 70, 8
CACHE_TOKENS, KV_BYTES = 512, 2**26


@dataclass(frozen=True)
class Comparison:
    """How results compare with the CPU's."""

    largest_difference: float
    largest_value: float
    similarity: float
    same_top: float


@dataclass
class Outcome:
    """What the course saw."""

    device: str = ""
    runtime: str = ""
    compared: dict[str, Comparison] = field(default_factory=dict)
    equal: dict[str, bool] = field(default_factory=dict)
    ports: dict[str, list[str]] = field(default_factory=dict)
    compiled: dict[str, list[int]] = field(default_factory=dict)
    broken_cache_similarity: float = 1.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)


class CountingCore:
    """OpenVINO's core; counts compilations and imports."""

    def __init__(self) -> None:
        self.core, self.counts = ov.Core(), [0, 0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def compile_model(self, *given: Any) -> ov.CompiledModel:
        self.counts[0] += 1
        return self.core.compile_model(*given)

    def import_model(self, *given: Any) -> ov.CompiledModel:
        self.counts[1] += 1
        return self.core.import_model(*given)


def open_gpu(hints: Hints, runtime: str) -> tuple[Device, CountingCore]:
    core = CountingCore()
    cache = CompileCache(cache_paths.compiled_models(), MODEL.fingerprint, runtime)
    return Device(core, hints, cache), core


def encode(device: Device, static: bool = False) -> dict[str, FloatArray]:
    """Return the features of noise in each grid."""
    shapes = (STATIC,) if static else GRIDS
    patches = STATIC.patches if static else None
    encoder = OpenVINOVisionEncoder(device, MODEL, MANIFEST.vision, FAMILY, patches)
    values = 3 * MANIFEST.vision.temporal_patch * MANIFEST.vision.patch**2
    features = {}
    for grid in shapes:
        pixels = np.random.default_rng(grid.patches).uniform(-1, 1, (grid.patches, values)).astype(np.float32)
        features[f"{grid.height} x {grid.width}"] = encoder.encode(Patches(pixels, grid), lambda: False).values
    return features


def open_decoder(device: Device) -> OpenVINODecoder:
    decoder = OpenVINODecoder(device, MODEL, MANIFEST.text, MANIFEST.vision.deepstack, KV_BYTES, CACHE_TOKENS)
    decoder.warm_up()
    return decoder


class Passes:
    """The passes of the course through one decoder.

    They have 1, 3 or 20 tokens, because the plugin compiles kernels for each size.
    """

    def __init__(self, decoder: OpenVINODecoder, features: FloatArray) -> None:
        self.decoder, self.features = decoder, features
        random = np.random.default_rng(7)
        self.ids = random.integers(0, MANIFEST.text.vocab_size, LENGTH)
        self.wrong_ids = random.integers(0, MANIFEST.text.vocab_size, LENGTH)
        grid = GRIDS[1]
        self.image_end = IMAGE_START + grid.tokens
        self.positions = FAMILY.token_positions(LENGTH, [(IMAGE_START, grid)])
        self.blocks = -(-LENGTH // decoder.block_size)
        self.tables = [range(n * self.blocks, (n + 1) * self.blocks) for n in range(4)]

    def step(self, start: int, end: int, table: int = 0, wrong: bool = False, rows: int = 0) -> SequenceStep:
        first, last = max(start, IMAGE_START), min(end, self.image_end)
        placed: tuple[PlacedFeatures, ...] = ()
        if first < last:
            part = ImageFeatures(self.features).slice(first - IMAGE_START, last - IMAGE_START)
            placed = (PlacedFeatures(first - start, part),)
        ids = (self.wrong_ids if wrong else self.ids)[start:end]
        blocks = list(self.tables[table])
        return SequenceStep(ids, self.positions[:, start:end], start, blocks, placed, rows or end - start)

    def run(self, *steps: SequenceStep) -> FloatArray:
        return np.concatenate([output.logits for output in self.decoder.forward(steps, lambda: False)])

    def one_sequence(self) -> dict[str, FloatArray]:
        """Return the logits of the passes of a single sequence."""
        logits = {"prefill": np.concatenate([self.run(self.step(0, 20)), self.run(self.step(20, 40))])}
        logits["steps"] = np.concatenate([self.run(self.step(at, at + 1)) for at in range(40, 46)])
        return logits

    def all(self) -> tuple[dict[str, FloatArray], bool]:
        """Return the logits of each pass, and whether moving blocks left the logits the same bits."""
        logits = self.one_sequence()
        self.run(self.step(46, 49, wrong=True))  # across a block's border
        logits["rollback"] = np.concatenate([self.run(self.step(47, 50)), self.run(self.step(50, 51))])
        batch = (self.step(51, 52), self.step(0, 17, table=1), self.step(0, 2, table=2, wrong=True))
        logits["mixed batch"] = self.run(*batch)
        before = self.run(self.step(52, 53))
        content = self.decoder.read_blocks(list(self.tables[0]))
        self.decoder.write_blocks(list(self.tables[0]), np.zeros_like(content))
        moved = list(self.tables[3])[::-1]
        self.decoder.write_blocks(moved, content)
        self.tables[3] = moved  # type: ignore[call-overload]
        logits["moved blocks"] = self.run(self.step(52, 53, table=3))
        return logits, np.array_equal(before, logits["moved blocks"])


def compare(found: FloatArray, expected: FloatArray) -> Comparison:
    difference = np.abs(found - expected).max()
    top = np.mean(found.argmax(-1) == expected.argmax(-1))
    return Comparison(float(difference), float(np.abs(expected).max()), similarity([found], [expected]), float(top))


def compare_all(
    outcome: Outcome, part: str, found: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]
) -> None:
    for name, values in found.items():
        outcome.compared[f"{part}: {name}"] = compare(values, expected[name])


def copied_cache(device: Device, element_type: ov.Type, shape: list[int]) -> CacheMemory:
    """Allocate as for a CPU: memory that the GPU plugin copies, and never writes back to."""
    cells = np.zeros(int(np.prod(shape)) * element_type.size, np.uint8)
    return CacheMemory(ov.Tensor(cells, ov.Shape(shape), element_type), cells.reshape(shape[0], -1))


@contextmanager
def timed(outcome: Outcome, part: str) -> Iterator[None]:
    began = time.process_time()
    yield
    outcome.cpu_seconds[part] = round(time.process_time() - began, 1)


def run_vision(outcome: Outcome, hints: Hints, features: Mapping[str, FloatArray]) -> None:
    device, core = open_gpu(hints, outcome.runtime)
    with timed(outcome, "vision"):
        compare_all(outcome, "vision", encode(device), features)
    outcome.compiled["vision"] = core.counts
    device, _ = open_gpu(hints, outcome.runtime)
    part = "vision, static shapes"
    with timed(outcome, part):
        compare_all(outcome, part, encode(device, static=True), features)


def run_decoder(
    outcome: Outcome, hints: Hints, features: FloatArray, expected: Mapping[str, FloatArray], again: bool
) -> None:
    """Compare the decoder with the CPU's. Unless ``again``, only the passes of a single sequence."""
    part = f"decoder, KV {hints.kv_precision}"
    device, core = open_gpu(hints, outcome.runtime)
    with timed(outcome, part):
        opened = open_decoder(device)
        passes = Passes(opened, features)
        if again:
            logits, outcome.equal[f"{part}: moved"] = passes.all()
        else:
            logits = passes.one_sequence()
    outcome.compiled[part] = core.counts
    outcome.ports[part] = opened.name.split("names[")[1:3]
    compare_all(outcome, part, logits, expected)
    if again:
        device, core = open_gpu(hints, outcome.runtime)
        with timed(outcome, f"{part} again"):
            opened = open_decoder(device)
            repeated = Passes(opened, features).one_sequence()
        outcome.compiled[f"{part} again"] = core.counts
        outcome.equal[f"{part} again"] = all(np.array_equal(repeated[name], logits[name]) for name in repeated)
        with timed(outcome, "broken cache"):
            outcome.broken_cache_similarity = broken_cache_similarity(opened, device)


def broken_cache_similarity(opened: OpenVINODecoder, device: Device) -> float:
    """Return what the probe of vlrun's device check finds if the cache is in memory that the plugin copies."""
    probe = DeviceProbe(MANIFEST)
    on_cpu = open_device(REFERENCE)
    features = probe.encode(OpenVINOVisionEncoder(on_cpu, MODEL, MANIFEST.vision, FAMILY))[-1]
    expected = probe.decode(open_decoder(on_cpu), features)
    ports = [f"{kind}_cache.{layer}" for layer in range(MANIFEST.text.layers) for kind in ("key", "value")]
    with mock.patch.object(decoders, "allocate_cache", copied_cache):
        opened._allocate_cache(device, ports, KV_BYTES, CACHE_TOKENS)
    return similarity(probe.decode(opened, features), expected)


def main(out: Path, precision: str) -> None:
    core = ov.Core()
    outcome = Outcome(str(core.get_property("GPU", "FULL_DEVICE_NAME")), str(runtime_of(core, "GPU")))
    on_cpu = open_device(REFERENCE)
    features = encode(on_cpu)
    image = features[f"{GRIDS[1].height} x {GRIDS[1].width}"]
    expected, outcome.equal["moved on the CPU"] = Passes(open_decoder(on_cpu), image).all()
    hints = Hints(device="GPU", decoder_precision=precision, vision_precision=precision)
    run_vision(outcome, hints, features)
    run_decoder(outcome, hints, image, expected, again=True)
    if precision == "f32":
        run_decoder(outcome, replace(hints, kv_precision="f32"), image, expected, again=False)
    out.write_text(json.dumps(asdict(outcome), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
