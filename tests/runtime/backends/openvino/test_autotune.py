"""Tuning: it measures, remembers, is used, and never stands in the way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import vlrun
from vlrun import manifest
from vlrun.backends import open_backends
from vlrun.backends.openvino import autotune as tuning
from vlrun.backends.openvino.autotune import Tuned
from vlrun.backends.openvino.hints import Hints
from vlrun.cli import commands
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow


def hints_used(hints: Hints) -> str:
    """Return the settings with which the embedded model would be loaded."""
    (backend,) = open_backends(FOLDER, manifest.read(FOLDER), manifest.fingerprint(FOLDER), hints, threading.Event())
    return backend.settings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_tune_measures_and_ask_uses_it() -> None:
    """Guards the whole way: several choices measured, the fastest kept, and taken by the next load."""
    done = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER)])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("decoder f32") == 3
    assert done.stderr.count(" s\n") >= 4
    found = tuning.load_tuned(FOLDER, "CPU")
    assert found is not None
    assert 0 < found.seconds <= found.default_seconds
    assert hints_used(Hints()) == str(found.apply(Hints()))
    with vlrun.load() as vlm:
        assert vlm.ask([], "Hi", vlrun.Options(max_tokens=2)).usage.completion_tokens


def test_hints_that_are_given_win() -> None:
    """Guards options: what is asked for is not replaced by what was measured."""
    tuning.save_tuned(Tuned("bf16", "bf16", 32, 1, 1.0, 2.0), FOLDER, "CPU")
    tuned = Hints(decoder_precision="bf16", vision_precision="bf16", group_size=32, threads=1)
    assert hints_used(Hints()) == str(tuned)
    asked = Hints(group_size=0)
    assert hints_used(asked) == str(asked)


@pytest.mark.parametrize("content", [b"", b"{", b'{"seconds": "fast"}'])
def test_a_damaged_result_is_no_result(content: bytes, own_cache: Path) -> None:
    """Guards loading: a broken cache file costs speed and nothing else."""
    tuning.save_tuned(Tuned(None, None, None, None, 1.0, 2.0), FOLDER, "CPU")
    (file,) = (own_cache / "vlrun" / "tuned").iterdir()
    file.write_bytes(content)
    assert tuning.load_tuned(FOLDER, "CPU") is None
    assert manifest.read(FOLDER).name
