"""Imports load nothing heavy before it is needed. Each test runs in its own process."""

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

# Python and click with their imports are about 130 modules; OpenVINO with NumPy is 600.
FEW_MODULES = 180


def modules_loaded_by(code: str) -> set[str]:
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
    assert not modules_loaded_by(f"import {module}") & HEAVY


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
def test_the_runtime_imports_no_workbench_package(module: str) -> None:
    assert not modules_loaded_by(f"import {module}") & WORKBENCH


def test_ask_imports_no_web_server() -> None:
    """Guards the startup time of `vlrun ask`."""
    assert not modules_loaded_by("import vlrun.cli.ask, vlrun.vlm, vlrun.tasks.run, vlrun.perf.estimate") & SERVER


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"]])
def test_help_imports_few_modules(arguments: list[str]) -> None:
    start = time.perf_counter()
    loaded = modules_loaded_by(HELP.format(arguments=arguments))
    print(f"vlrun {' '.join(arguments)}: {time.perf_counter() - start:.3f} s, {len(loaded)} modules")
    assert not loaded & HEAVY - {"vlrun_export"}  # imported for its help line; it imports nothing heavy
    assert len(loaded) < FEW_MODULES
