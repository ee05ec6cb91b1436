"""Stored results of ``vlrun tune``, and what a load makes of open hints."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from vlrun.backends import open_backends
from vlrun.backends.openvino import backend as openvino_backend
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.tuned import Tuned, load_tuned, save_tuned
from vlrun.embedded import FOLDER
from vlrun.models.model_folder import ModelFolder

MODEL = ModelFolder(FOLDER)
DANGEROUS = msgspec.json.encode(Tuned("f16", None, 256, None, 1.0, 2.0))
TUNED = Tuned("bf16", "bf16", 32, 1, 1.0, 2.0)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def probe(hints: Hints) -> tuple[Hints, str]:
        return Hints(vision_precision="bf16", group_size=hints.group_size or 256), "measured"

    monkeypatch.setattr(openvino_backend, "choose_properties", probe)
    return tmp_path


def hints_used(hints: Hints) -> str:
    """Return the settings with which the embedded model would be loaded."""
    (open_backend,) = open_backends(MODEL, hints, threading.Event())
    backend = open_backend()
    return backend.settings


def test_given_hints_override_tuned_ones_and_those_the_probe() -> None:
    assert hints_used(Hints()) == str(Hints(vision_precision="bf16", group_size=256))
    save_tuned(TUNED, MODEL.fingerprint, "CPU")
    tuned = Hints(decoder_precision="bf16", vision_precision="bf16", group_size=32, threads=1)
    assert hints_used(Hints()) == str(tuned)
    assert hints_used(Hints(group_size=0)) == str(Hints(vision_precision="bf16", group_size=256))


def test_the_cpu_is_probed_only_if_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe took up to a second of every load on a GPU that works."""
    probed: list[str] = []

    def probe(hints: Hints) -> tuple[Hints, str]:
        probed.append(hints.device)
        return hints, ""

    monkeypatch.setattr(openvino_backend, "choose_properties", probe)
    monkeypatch.setattr(openvino_backend, "candidates", lambda _: [Hints(device="GPU"), Hints()])
    open_gpu, open_cpu = open_backends(MODEL, Hints(device="GPU"), threading.Event())
    assert open_gpu().device == "GPU"
    assert not probed
    assert open_cpu().device == "CPU"
    assert probed == ["CPU"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"seconds": "fast"}', b'{"x":' + b"[" * 50_000, DANGEROUS])
def test_a_damaged_or_dangerous_result_is_ignored(content: bytes, cache_folder: Path) -> None:
    """An earlier version may have stored properties that crash the plugin."""
    save_tuned(TUNED, MODEL.fingerprint, "CPU")
    (file,) = (cache_folder / "vlrun" / "tuned").iterdir()
    file.write_bytes(content)
    assert load_tuned(MODEL.fingerprint, "CPU") is None
