"""Nothing heavy is loaded before it is needed; each test checks in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.repo.tree import PACKAGES

WORKBENCH = {"nncf", "onnx", "optimum", "torch", "torchvision", "transformers", "vlrun_export"}
SERVER = {"h11", "prometheus_client", "python_multipart", "starlette", "uvicorn", "vlrun.server"}
HEAVY = WORKBENCH | SERVER | {"PIL", "huggingface_hub", "jinja2", "msgspec", "numpy", "openvino", "tokenizers"}
HELP = "import sys; sys.argv = ['vlrun', *{arguments}]; from vlrun.cli import main; main()"

# Python, click and the parts of the standard library that they need are about 130; OpenVINO with NumPy is 600.
FEW_MODULES = 180


def _loaded_by(code: str) -> set[str]:
    report = (
        "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))"
    )
    paths = os.pathsep.join(str(folder.parent) for folder in PACKAGES.values())
    run = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stderr))


@pytest.mark.parametrize("module", ["vlrun", "vlrun.cli", "vlrun.errors"])
def test_import_loads_nothing_heavy(module: str) -> None:
    assert not _loaded_by(f"import {module}") & HEAVY


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "vlrun.vlm",
        "vlrun.backends.openvino.decoder",
        "vlrun.backends.openvino.vision_encoder",
        "vlrun.prompt.chat_template",
    ],
)
def test_the_runtime_never_loads_the_workbench(module: str) -> None:
    assert not _loaded_by(f"import {module}") & WORKBENCH


def test_asking_loads_no_web_server() -> None:
    """Guards the startup time of `vlrun ask`."""
    assert not _loaded_by("import vlrun.cli.ask, vlrun.vlm, vlrun.tasks.run, vlrun.perf.estimate") & SERVER


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"]])
def test_help_loads_little(arguments: list[str]) -> None:
    start = time.perf_counter()
    loaded = _loaded_by(HELP.format(arguments=arguments))
    print(f"vlrun {' '.join(arguments)}: {time.perf_counter() - start:.3f} s, {len(loaded)} modules")
    assert not loaded & HEAVY - {"vlrun_export"}  # for its one-line help; it imports nothing heavy
    assert len(loaded) < FEW_MODULES
