"""ONNX Runtime as a backend: what it refuses, and that it gives the results of OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

import vlrun
from tests.exports import export
from tests.paths import EXAMPLES, ROOT
from vlrun import CacheConfig, Hints, Options
from vlrun.backends.onnxruntime.backend import check_hints
from vlrun.errors import DeviceError, OptionError, VlrunError
from vlrun.layout import ONNX
from vlrun.manifest import Quantization

EXACT = Hints(vision_precision="f32", kv_precision="f32", group_size=0)
ONNX_EXACT = Hints(vision_precision="f32", kv_precision="f32", group_size=0, backend="onnxruntime")
NO_DISK = CacheConfig(kv_disk=0)
INT8 = Quantization("int8", "int8", "")
QUESTIONS = (("shelf", "How many bottles are there?"), ("shapes", "Describe this image."), ("word", "What is written?"))


@pytest.mark.parametrize(
    ("hints", "error"),
    [
        (Hints(device="GPU"), "runs on the CPU only, not on GPU"),
        (Hints(decoder_precision="bf16"), "has no decoder_precision bf16"),
        (Hints(vision_precision="bf16"), "has no vision_precision bf16"),
        (Hints(kv_precision="f16"), "has no kv_precision f16"),
        (Hints(group_size=128), "has no group_size 128"),
        (Hints(group_size=0), "has no group_size 0"),  # MatMulNBits quantizes activations
    ],
)
def test_properties_of_openvino_are_refused(hints: Hints, error: str) -> None:
    with pytest.raises((DeviceError, OptionError), match=error):
        check_hints(hints, INT8)


def test_properties_that_it_has_are_accepted() -> None:
    for hints in (Hints(), Hints(threads=2), Hints(device="auto"), Hints(kv_precision="f32", vision_precision="f32")):
        check_hints(hints, INT8)
    check_hints(EXACT, Quantization("fp32", "fp16", ""))


@pytest.mark.slow
def test_a_folder_for_the_other_backend_is_refused(tied_onnx_model: Path, tied_model: Path) -> None:
    for folder, backend in ((tied_onnx_model, "openvino"), (tied_model, "onnxruntime")):
        with pytest.raises(OptionError, match=f"which {backend} cannot run: leave out --backend, or export"):
            vlrun.load(folder, hints=Hints(backend=backend))
    with pytest.raises(OptionError, match="there is no backend 'tflite'; available: openvino, onnxruntime"):
        Hints(backend="tflite")


@pytest.mark.slow
def test_heat_maps_are_refused(tied_onnx_model: Path) -> None:
    """Guards against an option that is ignored."""
    with vlrun.load(tied_onnx_model, cache=NO_DISK) as vlm, pytest.raises(OptionError, match="heat maps need"):
        vlm.ask([], "Hi", Options(max_tokens=2, heatmap=True))


@pytest.mark.slow
def test_fp32_logits_of_small_models_equal_those_of_openvino(small_model: Path, onnx_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    logits = []
    for folder, hints in ((small_model, EXACT), (onnx_model, ONNX_EXACT)):
        with vlrun.load(folder, hints=hints, cache=NO_DISK) as vlm:
            logits.append(vlm.score(image, "How many bottles?", "There are three red bottles and two green cans."))
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Restore a checkpoint in FP32 from the embedded model."""
    pytest.importorskip("torch", reason="needs the workbench packages")
    from training.checkpoint import save_checkpoint
    from training.restore import load_checkpoint

    folder = tmp_path_factory.mktemp("embedded") / "checkpoint"
    save_checkpoint(*load_checkpoint(ROOT / "runtime" / "vlrun" / "embedded"), folder)
    return folder


@pytest.mark.slow
def test_the_embedded_model_answers_the_same_with_both_backends(checkpoint: Path) -> None:
    """ONNX Runtime is an independent witness: FP32 logits within 1e-4, INT8 with the same token in 97 % of cases."""
    parent = checkpoint.parent
    export(checkpoint, parent / "openvino")
    export(checkpoint, parent / "onnx", ONNX)
    export(checkpoint, parent / "int8", ONNX, "int8")
    answers: list[str] = []
    logits: dict[str, np.ndarray] = {}
    for name, hints in (("openvino", EXACT), ("onnx", ONNX_EXACT), ("int8", Hints())):
        with vlrun.load(parent / name, hints=hints, cache=NO_DISK) as vlm:
            images = [EXAMPLES / f"{image}.png" for image, _ in QUESTIONS]
            if not answers:
                options = Options(temperature=0, max_tokens=80)
                answers = [vlm.ask(one, text, options).text for one, (_, text) in zip(images, QUESTIONS, strict=True)]
            scores = [
                vlm.score(one, text, answer) for one, (_, text), answer in zip(images, QUESTIONS, answers, strict=True)
            ]
            logits[name] = np.concatenate(scores)
    assert np.abs(logits["onnx"] - logits["openvino"]).max() < 1e-4
    assert (logits["int8"].argmax(axis=1) == logits["openvino"].argmax(axis=1)).mean() >= 0.97


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `pip install vlrun` without the extra onnx, with an ONNX folder."""
    import sys
    import threading
    from types import SimpleNamespace

    from vlrun.backends import open_backends

    monkeypatch.setitem(sys.modules, "vlrun.backends.onnxruntime.backend", None)
    folder = SimpleNamespace(name="model", manifest=SimpleNamespace(layout=ONNX.name))
    with pytest.raises(VlrunError, match=r"ONNX Runtime is not installed: pip install 'vlrun\[onnx\]'"):
        open_backends(folder, Hints(), threading.Event())  # type: ignore[arg-type]


def test_an_onnx_model_has_no_openvino_layout(tmp_path: Path) -> None:
    """Guards against an option that is ignored."""
    from vlrun_export.command import export

    arguments = [str(tmp_path / "checkpoint"), str(tmp_path / "out"), "--format", "onnx", "--layout", "optimum"]
    with pytest.raises(OptionError, match="leave out --format onnx or --layout"):
        export.main(arguments, standalone_mode=False)


@pytest.mark.slow
def test_there_is_nothing_to_tune(tied_onnx_model: Path) -> None:
    from vlrun.cli.tune import tune

    with pytest.raises(OptionError, match="with ONNX Runtime there is only --threads"):
        tune.main(["--model", str(tied_onnx_model)], standalone_mode=False)
