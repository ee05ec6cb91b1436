"""``vlrun export`` as a process: output, exit codes, Ctrl+C, and no telemetry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.small_models import build_checkpoint
from vlrun import manifest

PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("runtime", "export"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("command") / "checkpoint", tied=True, deepstack=(1, 3), seed=5)


def start(*arguments: str | Path, home: Path, folder: Path = ROOT) -> subprocess.Popen[str]:
    """Start the command in a folder, whose modules have priority."""
    command = [sys.executable, "-m", "vlrun.cli", "export", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": PATHS, "HOME": str(home)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )


def test_progress_goes_to_stderr(checkpoint: Path, tmp_path: Path) -> None:
    """Stdout stays empty, stderr has only vlrun's lines, and no telemetry is written."""
    (tmp_path / "home").mkdir()
    process = start(checkpoint, tmp_path / "out", home=tmp_path / "home")
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert out == ""
    assert manifest.read(tmp_path / "out").check
    for step in ("vision encoder", "decoder", "int8", "self-check", "DeepStack", "peak memory"):
        assert step in err
    for noise in ("Warning", "INFO", "Applying", "loss_type", "Traceback"):
        assert noise not in err
    assert err.rstrip().endswith(f"""ask --model {tmp_path / "out"} photo.jpg "What is shown here?\"""")
    assert list((tmp_path / "home").glob("intel/*")) == []  # OpenVINO's telemetry stores its client id there


def remove_config(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()


def change_family(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "llama"}')


def leave_a_pointer(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def cut_the_weights(checkpoint: Path) -> None:
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.truncate(100_000)


def make_files(checkpoint: Path) -> None:
    (checkpoint.parent / "out").mkdir()
    (checkpoint.parent / "out" / "file").touch()


Case = tuple[Callable[[Path], object], list[str], int, str]
WRONG: dict[str, Case] = {
    "precision": (lambda folder: None, ["checkpoint", "out", "--weights", "int3"], 2, "int3"),
    "no checkpoint": (lambda folder: None, ["nowhere", "out"], 7, "no checkpoint folder"),
    "no folder": (lambda folder: None, ["checkpoint/config.json", "out"], 7, "is not a folder"),
    "no config": (remove_config, ["checkpoint", "out"], 7, "it has no config.json"),
    "other family": (change_family, ["checkpoint", "out"], 7, "only the dense Qwen3-VL family"),
    "LFS pointer": (leave_a_pointer, ["checkpoint", "out"], 7, "git lfs pull"),
    "cut weights": (cut_the_weights, ["checkpoint", "out"], 7, "damaged or incomplete"),
    "out exists": (
        make_files,
        ["checkpoint", "out"],
        8,
        "or replace a model folder with --force",
    ),
    "out is no model": (make_files, ["checkpoint", "out", "--force"], 8, "is not a model folder"),
    "out in the checkpoint": (lambda folder: None, ["checkpoint", "checkpoint/out"], 8, "overlap"),
    "no parent": (lambda folder: None, ["checkpoint", "missing/out"], 8, "there is no folder"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_paths_are_found_before_torch_is_loaded(checkpoint: Path, tmp_path: Path, name: str) -> None:
    """Guards the ten seconds after which a typing error was reported. Each error has its exit code."""
    prepare, arguments, code, message = WRONG[name]
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    prepare(tmp_path / "checkpoint")
    for heavy in ("torch", "transformers", "nncf"):
        (tmp_path / f"{heavy}.py").write_text("raise SystemError('too early')")
    process = start(*arguments, home=tmp_path, folder=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, ""), err
    assert message in err
    assert "too early" not in err
    assert "Traceback" not in err


def test_ctrl_c_removes_the_partial_export(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    process = start(checkpoint, tmp_path / "models" / "out", home=tmp_path)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "models").glob(".out.*.part/vision.xml")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert list((tmp_path / "models").iterdir()) == []
