"""``vlrun export`` as a process: output, exit codes, Ctrl+C, and no telemetry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.small_models import build_checkpoint
from vlrun import manifest

PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("runtime", "export"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("command") / "checkpoint", tied=True, deepstack=(1, 3), seed=5)


def start(*arguments: str | Path, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlrun.cli", "export", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": PATHS, "HOME": str(home)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_progress_goes_to_stderr(checkpoint: Path, tmp_path: Path) -> None:
    """Stdout stays empty, stderr has only vlrun's lines, and no telemetry is written."""
    (tmp_path / "home").mkdir()
    process = start(checkpoint, tmp_path / "out", home=tmp_path / "home")
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert out == ""
    assert manifest.read(tmp_path / "out").check
    for step in ("vision encoder", "decoder", "int8", "compared with transformers", "DeepStack", "peak memory"):
        assert step in err
    for noise in ("Warning", "INFO", "Applying", "loss_type", "Traceback"):
        assert noise not in err
    assert list((tmp_path / "home").glob("intel/*")) == []  # OpenVINO's telemetry stores its client id there


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "out"], 7, "no checkpoint folder"),
        (["checkpoint", "here"], 8, "--force"),
        (["checkpoint", "out", "--weights", "int3"], 2, "int3"),
    ],
)
def test_errors_have_their_exit_codes(
    checkpoint: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").touch()
    paths = {"nowhere": tmp_path / "nowhere", "out": tmp_path / "out", "here": tmp_path / "here"}
    process = start(*({"checkpoint": checkpoint, **paths}.get(name, name) for name in arguments), home=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_ctrl_c_removes_the_partial_export(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    process = start(checkpoint, tmp_path / "models" / "out", home=tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "models").glob(".out.*.part/vision.xml")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert list((tmp_path / "models").iterdir()) == []
