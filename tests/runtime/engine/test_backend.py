"""Importing the engine imports no inference library."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.paths import RUNTIME


def test_importing_the_engine_imports_no_inference_library() -> None:
    code = (
        "import sys, vlrun.engine.engine;"
        "print(sorted({'openvino', 'onnxruntime', 'tokenizers', 'jinja2', 'PIL'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(RUNTIME)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
