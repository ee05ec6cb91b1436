"""Compiled models on disk: correct results whatever happens to the files. The CPU stands in for a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, open_device, runtime_of
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.engine.backend import SequenceStep
from vlrun.errors import ModelChanged
from vlrun.manifest import VISION_BIN
from vlrun.models.model_folder import ModelFolder
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

pytestmark = pytest.mark.slow

MODEL = ModelFolder(FOLDER)
FINGERPRINT = MODEL.fingerprint
DIMENSIONS = MODEL.manifest
DRIVER = "driver=1.0"


class CountingCore:
    """OpenVINO's core; counts compilations and imports."""

    def __init__(self) -> None:
        self.core = ov.Core()
        self.compiled = self.imported = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def compile_model(self, *given: Any) -> ov.CompiledModel:
        self.compiled += 1
        return self.core.compile_model(*given)

    def import_model(self, *given: Any) -> ov.CompiledModel:
        self.imported += 1
        return self.core.import_model(*given)


def cached_device(
    folder: Path, fingerprint: str = FINGERPRINT, driver: str = DRIVER, **hints: Any
) -> tuple[Device, CountingCore]:
    core = CountingCore()
    return Device(core, Hints(**hints), CompileCache(folder, fingerprint, driver)), core


def encode_noise(device: Device, folder: ModelFolder = MODEL) -> FloatArray:
    grid = Grid(4, 4, 2)
    pixels = np.random.default_rng(0).standard_normal((16, 3 * 2 * DIMENSIONS.vision.patch**2)).astype(np.float32)
    return (
        OpenVINOVisionEncoder(device, folder, DIMENSIONS.vision, QWEN3_VL)
        .encode(Patches(pixels, grid), lambda: False)
        .values
    )


@pytest.fixture(scope="module")
def expected() -> FloatArray:
    return encode_noise(open_device(Hints()))


def test_the_second_start_imports_the_compiled_model(tmp_path: Path, expected: FloatArray) -> None:
    """Results are bit-equal; other properties give another file."""
    for compiled, imported in ((1, 0), (0, 1)):
        device, core = cached_device(tmp_path)
        assert np.array_equal(encode_noise(device), expected)
        assert (core.compiled, core.imported) == (compiled, imported)
    device, core = cached_device(tmp_path, group_size=32)
    encode_noise(device)
    assert (core.compiled, core.imported) == (1, 0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.fault(37)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty file", "text"])
def test_a_damaged_file_is_compiled_again(tmp_path: Path, expected: FloatArray, damage: str) -> None:
    """OpenVINO's own cache does not notice a flipped byte and gives wrong results."""
    encode_noise(cached_device(tmp_path)[0])
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "truncate": bytes(content[:-100]), "empty file": b"", "text": b"x" * 100}
    file.write_bytes(damaged[damage])
    for compiled in (1, 0):
        device, core = cached_device(tmp_path)
        assert np.array_equal(encode_noise(device), expected)
        assert core.compiled == compiled


@pytest.mark.fault(37)
def test_replaced_weights_of_the_same_size_are_compiled_again(tmp_path: Path, expected: FloatArray) -> None:
    """OpenVINO's own cache would run the old weights. The manifest's fingerprint differs."""
    encode_noise(cached_device(tmp_path / "cache")[0])
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    weights = np.fromfile(folder / VISION_BIN, np.uint8)
    middle = len(weights) // 2  # inside a matrix
    weights[middle : middle + 4096] ^= 15
    weights.tofile(folder / VISION_BIN)
    changed = encode_noise(open_device(Hints()), ModelFolder(folder))
    device, core = cached_device(tmp_path / "cache", "another fingerprint")
    assert np.array_equal(encode_noise(device, ModelFolder(folder)), changed)
    assert not np.array_equal(changed, expected)
    assert core.compiled == 1


@pytest.mark.fault(45)
def test_weights_that_change_while_they_are_compiled_give_no_blob(tmp_path: Path) -> None:
    """Guards the cache: such a blob would be stored under the good model's name."""
    shutil.copytree(FOLDER, tmp_path / "model")
    folder = ModelFolder(tmp_path / "model")

    class OverwritingCore(CountingCore):
        def compile_model(self, *given: Any) -> ov.CompiledModel:
            compiled = super().compile_model(*given)
            with (tmp_path / "model" / VISION_BIN).open("r+b") as file:
                file.write(b"changed")
            return compiled

    device = Device(OverwritingCore(), Hints(), CompileCache(tmp_path / "cache", folder.fingerprint, DRIVER))
    with pytest.raises(ModelChanged):
        OpenVINOVisionEncoder(device, folder, DIMENSIONS.vision, QWEN3_VL)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_the_plugin_refuses_is_tried_twice(tmp_path: Path) -> None:
    """The CPU plugin refuses to import its own compiled PagedAttention models."""
    logits = []
    for compiled, imported in ((1, 0), (1, 1), (1, 1), (1, 0), (1, 0)):
        device, core = cached_device(tmp_path)
        decoder = OpenVINODecoder(device, MODEL, DIMENSIONS.text, DIMENSIONS.vision.deepstack, 2**24, 256)
        assert (core.compiled, core.imported) == (compiled, imported)
        step = SequenceStep(np.arange(5), np.tile(np.arange(5), (3, 1)), 0, [0])
        logits.append(decoder.forward([step], lambda: False)[0].logits)
    assert all(np.array_equal(logits[0], row) for row in logits)


def test_another_driver_compiles_again(tmp_path: Path, expected: FloatArray) -> None:
    """The property that was asked for the driver's version does not exist, and its error was suppressed."""
    for driver, compiled in (("driver=1.0", 1), ("driver=2.0", 1), ("driver=1.0", 0)):
        device, core = cached_device(tmp_path, driver=driver)
        assert np.array_equal(encode_noise(device), expected)
        assert core.compiled == compiled


def test_the_versions_that_compiled_models_depend_on_are_known() -> None:
    assert ov.get_version().split("-")[0] in str(runtime_of(ov.Core(), "CPU"))


def test_one_model_in_two_shapes_has_two_files(tmp_path: Path) -> None:
    """A vision encoder with static shapes is compiled for each number of patches."""
    for patches, compiled in ((16, 1), (24, 1), (16, 0), (24, 0)):
        device, core = cached_device(tmp_path)
        encoder = OpenVINOVisionEncoder(device, MODEL, DIMENSIONS.vision, QWEN3_VL, patches)
        grid = Grid(4, patches // 4, 2)
        pixels = np.zeros((patches, 3 * 2 * DIMENSIONS.vision.patch**2), np.float32)
        assert encoder.encode(Patches(pixels, grid), lambda: False).tokens == patches // 4
        assert core.compiled == compiled


def test_one_failed_import_does_not_disable_the_cache(
    tmp_path: Path, expected: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a device that was busy once."""

    def busy(*_: object) -> None:
        raise RuntimeError("busy")

    encode_noise(cached_device(tmp_path)[0])
    with monkeypatch.context() as patch:
        patch.setattr(CountingCore, "import_model", busy)
        assert np.array_equal(encode_noise(cached_device(tmp_path)[0]), expected)
    for _ in range(2):
        device, core = cached_device(tmp_path)
        assert np.array_equal(encode_noise(device), expected)
        assert (core.compiled, core.imported) == (0, 1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".blob"]


def test_a_device_without_cache_support_compiles(tmp_path: Path, expected: FloatArray) -> None:
    """Guards plugins that refuse the property CACHE_MODE."""

    class CoreWithoutCache(CountingCore):
        def compile_model(self, *given: Any) -> ov.CompiledModel:
            if "CACHE_MODE" in given[2]:
                raise RuntimeError("unsupported property CACHE_MODE")
            return super().compile_model(*given)

    core = CoreWithoutCache()
    device = Device(core, Hints(), CompileCache(tmp_path, FINGERPRINT, DRIVER))
    assert np.array_equal(encode_noise(device), expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(37)
def test_an_unwritable_folder_only_disables_the_cache(tmp_path: Path, expected: FloatArray) -> None:
    (tmp_path / "file").write_text("")
    device, core = cached_device(tmp_path / "file")
    assert np.array_equal(encode_noise(device), expected)
    assert core.compiled == 1


def test_the_cpu_does_not_use_the_cache(tmp_path: Path) -> None:
    assert open_device(Hints(), CompileCache(tmp_path, FINGERPRINT, DRIVER)).compile_cache is None
