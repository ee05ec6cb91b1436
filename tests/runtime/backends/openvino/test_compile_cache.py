"""Compiled models on disk: right answers whatever became of the files. A CPU plays the device that they are for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from vlrun import manifest
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.engine.backend import SequenceStep
from vlrun.manifest import DECODER_BIN, VISION_BIN, VISION_XML
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

pytestmark = pytest.mark.slow

FINGERPRINT = manifest.fingerprint(FOLDER)
DIMENSIONS = manifest.read(FOLDER)


class CountingCore:
    """OpenVINO's core, counting what it compiles and what it takes from a blob."""

    def __init__(self) -> None:
        self._core = ov.Core()
        self.compiled = self.imported = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, *given: Any) -> ov.CompiledModel:
        self.compiled += 1
        return self._core.compile_model(*given)

    def import_model(self, *given: Any) -> ov.CompiledModel:
        self.imported += 1
        return self._core.import_model(*given)


def device(blobs: Path, fingerprint: str = FINGERPRINT, **hints: Any) -> tuple[Device, CountingCore]:
    core = CountingCore()
    return Device(core, Hints(**hints), CompileCache(blobs, fingerprint)), core


def seen(on: Device, folder: Path = FOLDER) -> FloatArray:
    grid = Grid(4, 4, 2)
    pixels = np.random.default_rng(0).standard_normal((16, 3 * 2 * DIMENSIONS.vision.patch**2)).astype(np.float32)
    return (
        OpenVINOVisionEncoder(on, folder, DIMENSIONS.vision, QWEN3_VL)
        .encode(Patches(pixels, grid), lambda: False)
        .values
    )


@pytest.fixture(scope="module")
def truth() -> FloatArray:
    return seen(open_device(Hints()))


def test_the_second_start_compiles_nothing(tmp_path: Path, truth: FloatArray) -> None:
    """Guards what the cache is for, bit by bit; other hints are another blob."""
    for compiled, imported in ((1, 0), (0, 1)):
        on, core = device(tmp_path)
        assert np.array_equal(seen(on), truth)
        assert (core.compiled, core.imported) == (compiled, imported)
    on, core = device(tmp_path, group_size=32)
    seen(on)
    assert (core.compiled, core.imported) == (1, 0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.fault(37)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty file", "text"])
def test_a_damaged_blob_is_compiled_anew(tmp_path: Path, truth: FloatArray, damage: str) -> None:
    """Guards against OpenVINO's own cache's fault: a flipped byte answers wrongly in silence."""
    seen(device(tmp_path)[0])
    (blob,) = tmp_path.iterdir()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "cut": bytes(content[:-100]), "empty file": b"", "text": b"x" * 100}
    blob.write_bytes(damaged[damage])
    for compiled in (1, 0):
        on, core = device(tmp_path)
        assert np.array_equal(seen(on), truth)
        assert core.compiled == compiled


@pytest.mark.fault(37)
def test_other_weights_of_the_same_size_are_noticed(tmp_path: Path, truth: FloatArray) -> None:
    """Guards against the other fault: a replaced .bin runs the old weights. The manifest's fingerprint differs then."""
    seen(device(tmp_path / "blobs")[0])
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    weights = np.fromfile(folder / VISION_BIN, np.uint8)
    middle = len(weights) // 2  # of some matrix: the small constants lie between
    weights[middle : middle + 4096] ^= 15
    weights.tofile(folder / VISION_BIN)
    changed = seen(open_device(Hints()), folder)
    on, core = device(tmp_path / "blobs", "another fingerprint")
    assert np.array_equal(seen(on, folder), changed)
    assert not np.array_equal(changed, truth)
    assert core.compiled == 1


def test_what_cannot_be_taken_back_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Guards a plugin that writes blobs it refuses, as the CPU's does of PagedAttention: twice, and no more."""
    logits = []
    for compiled, imported in ((1, 0), (1, 1), (1, 1), (1, 0), (1, 0)):
        on, core = device(tmp_path)
        decoder = OpenVINODecoder(on, FOLDER, DIMENSIONS.text, DIMENSIONS.vision.deepstack, 2**24, 256)
        assert (core.compiled, core.imported) == (compiled, imported)
        step = SequenceStep(np.arange(5), np.tile(np.arange(5), (3, 1)), 0, [0])
        logits.append(decoder.forward([step], lambda: False)[0].logits)
    assert all(np.array_equal(logits[0], row) for row in logits)


def test_one_refusal_is_forgiven(tmp_path: Path, truth: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a device that was busy once: the cache works again afterwards."""

    def busy(*_: object) -> None:
        raise RuntimeError("busy")

    seen(device(tmp_path)[0])
    with monkeypatch.context() as patch:
        patch.setattr(CountingCore, "import_model", busy)
        assert np.array_equal(seen(device(tmp_path)[0]), truth)
    for _ in range(2):
        on, core = device(tmp_path)
        assert np.array_equal(seen(on), truth)
        assert (core.compiled, core.imported) == (0, 1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".blob"]


def test_a_device_that_knows_no_cache_compiles(tmp_path: Path, truth: FloatArray) -> None:
    """Guards plugins that refuse the property: a start without the cache, not an error."""

    class Plain(CountingCore):
        def compile_model(self, *given: Any) -> ov.CompiledModel:
            if "CACHE_MODE" in given[2]:
                raise RuntimeError("unsupported property CACHE_MODE")
            return super().compile_model(*given)

    core = Plain()
    on = Device(core, Hints(), CompileCache(tmp_path, FINGERPRINT))
    assert np.array_equal(seen(on), truth)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(37)
def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, truth: FloatArray) -> None:
    """Guards a start on a full or read-only disk, and one whose cache folder is a file."""
    (tmp_path / "file").write_text("")
    on, core = device(tmp_path / "file")
    assert np.array_equal(seen(on), truth)
    assert core.compiled == 1


def test_cpus_have_no_use_for_it(tmp_path: Path) -> None:
    """Guards the choice: on a CPU nothing is written, as it does not pay there."""
    assert open_device(Hints(), CompileCache(tmp_path, FINGERPRINT)).compile_cache is None
    assert {DECODER_BIN, VISION_BIN, VISION_XML} <= DIMENSIONS.files.keys()
