"""Tuning: it measures, remembers, is used, and never stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import vlrun
from vlrun import manifest
from vlrun.backends.openvino import autotune as tuning
from vlrun.backends.openvino import loader as loading
from vlrun.backends.openvino.autotune import Tuned
from vlrun.backends.openvino.hints import Hints
from vlrun.cli import commands
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow


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
    found = tuning.stored(FOLDER, "CPU")
    assert found is not None
    assert 0 < found.seconds <= found.default_seconds
    assert loading._tuned(FOLDER, Hints()) == found.applied(Hints())
    with vlrun.load() as vlm:
        assert vlm.ask([], "Hi", vlrun.Options(max_tokens=2)).usage.completion_tokens


def test_hints_that_are_given_win() -> None:
    """Guards options: what is asked for is not replaced by what was measured."""
    tuning.store(Tuned("bf16", "bf16", 32, 1, 1.0, 2.0), FOLDER, "CPU")
    assert loading._tuned(FOLDER, Hints()) == Hints(
        decoder_precision="bf16", vision_precision="bf16", group_size=32, threads=1
    )
    asked = Hints(group_size=0)
    assert loading._tuned(FOLDER, asked) == asked


@pytest.mark.parametrize("content", [b"", b"{", b'{"seconds": "fast"}'])
def test_a_damaged_result_is_no_result(content: bytes) -> None:
    """Guards loading: a broken cache file costs speed and nothing else."""
    tuning.store(Tuned(None, None, None, None, 1.0, 2.0), FOLDER, "CPU")
    (file,) = tuning._path(FOLDER, "CPU").parent.iterdir()
    file.write_bytes(content)
    assert tuning.stored(FOLDER, "CPU") is None
    assert manifest.read(FOLDER).name
