"""Autotuning: the fastest properties are measured, stored, and used by the next load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import vlrun
from vlrun.backends import open_backends
from vlrun.backends.openvino import autotune
from vlrun.backends.openvino.autotune import Tuned
from vlrun.backends.openvino.hints import Hints
from vlrun.cli.commands import commands
from vlrun.embedded import FOLDER
from vlrun.errors import DeviceError
from vlrun.models.model_folder import ModelFolder


def hints_used(hints: Hints) -> str:
    """Return the settings with which the embedded model would be loaded."""
    (backend,) = open_backends(ModelFolder(FOLDER), hints, threading.Event())
    return backend.settings


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Hints], float]], Tuned]:
    """Tune on a CPU with two threads per core, with the given seconds instead of measured ones."""
    siblings = tmp_path / "siblings"
    siblings.write_text("0-1\n")
    monkeypatch.setattr(autotune, "SIBLINGS", siblings)
    monkeypatch.setattr("os.cpu_count", lambda: 8)

    def tune_with(seconds: Callable[[Hints], float]) -> Tuned:
        monkeypatch.setattr(autotune, "decoder_seconds", lambda folder, hints: seconds(hints))
        monkeypatch.setattr(autotune, "vision_seconds", lambda folder, hints: seconds(hints))
        return autotune.tune(ModelFolder(FOLDER), "CPU", lambda _: None)

    return tune_with


def test_the_fastest_choice_of_each_kind_is_kept(tune: Callable[[Callable[[Hints], float]], Tuned]) -> None:
    """Precision and group size come first, then threads, then the precision of the vision encoder."""

    def seconds(hints: Hints) -> float:
        if hints.decoder_precision == "f16":
            raise DeviceError("no f16 on this device")
        slow = 10 * (hints.decoder_precision != "bf16") + 5 * (hints.group_size != 256)
        return 1.0 + slow + 2 * (hints.threads != 4) + 3 * (hints.vision_precision != "f32")

    tuned = tune(seconds)
    assert (tuned.decoder_precision, tuned.group_size, tuned.threads, tuned.vision_precision) == ("bf16", 256, 4, "f32")
    assert tuned.seconds == 4.0 + 1.0
    assert tuned.default_seconds == 21.0 + 4.0


@pytest.mark.parametrize(("seconds", "threads"), [(0.98, None), (0.9, 4)])
def test_a_small_gain_does_not_replace_the_default(
    tune: Callable[[Callable[[Hints], float]], Tuned], seconds: float, threads: int | None
) -> None:
    """Guards against properties that only won by noise."""
    tuned = tune(lambda hints: seconds if hints.threads == 4 else 1.0)
    assert tuned.threads == threads
    assert (tuned.decoder_precision, tuned.group_size) == (Hints().decoder_precision, Hints().group_size)


def test_a_device_that_refuses_every_choice_is_an_error(tune: Callable[[Callable[[Hints], float]], Tuned]) -> None:
    def refuse(_: Hints) -> float:
        raise DeviceError("refused")

    with pytest.raises(DeviceError, match="no setting works on CPU"):
        tune(refuse)


@pytest.mark.slow
def test_vlrun_tune_stores_a_result_that_the_next_load_uses() -> None:
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER)])
    assert run.exit_code == 0, run.output
    assert run.stderr.count("decoder f32") == 3
    assert run.stderr.count(" s\n") >= 4
    tuned = autotune.load_tuned(ModelFolder(FOLDER).fingerprint, "CPU")
    assert tuned is not None
    assert f": {tuned.seconds:.2f} s, with the defaults {tuned.default_seconds:.2f} s" in run.stdout
    assert f"decoder {tuned.decoder_precision}, group size {tuned.group_size}, " in run.stdout
    assert hints_used(Hints()) == str(tuned.apply(Hints()))
    with vlrun.load() as vlm:
        assert vlm.ask([], "Hi", vlrun.Options(max_tokens=2)).usage.completion_tokens


def test_given_hints_override_tuned_ones() -> None:
    autotune.save_tuned(Tuned("bf16", "bf16", 32, 1, 1.0, 2.0), ModelFolder(FOLDER).fingerprint, "CPU")
    tuned = Hints(decoder_precision="bf16", vision_precision="bf16", group_size=32, threads=1)
    assert hints_used(Hints()) == str(tuned)
    given = Hints(group_size=0)
    assert hints_used(given) == str(given)


@pytest.mark.parametrize("content", [b"", b"{", b'{"seconds": "fast"}'])
def test_a_damaged_result_is_ignored(content: bytes, cache_folder: Path) -> None:
    autotune.save_tuned(Tuned("bf16", "bf16", 32, 1, 1.0, 2.0), ModelFolder(FOLDER).fingerprint, "CPU")
    (file,) = (cache_folder / "vlrun" / "tuned").iterdir()
    file.write_bytes(content)
    assert autotune.load_tuned(ModelFolder(FOLDER).fingerprint, "CPU") is None
    assert hints_used(Hints()) == str(Hints())
