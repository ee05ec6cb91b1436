"""The runtime test suite on ONNX Runtime: ``VLRUN_TEST_BACKEND=onnxruntime`` replaces the embedded model by its ONNX
form.

The form is made by the export, once for a run, from the weights of the embedded model.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.paths import ROOT

BACKEND, FOLDER = "VLRUN_TEST_BACKEND", "VLRUN_TEST_FOLDER"
SKIPPED = {
    "tests/runtime/backends/openvino/": "tests the backend openvino",
    "tests/runtime/backends/test_loader.py": "tests the choice of OpenVINO's devices",
    "tests/runtime/cli/test_main.py::test_invalid_input_gets_one_sentence[['{images}/shelf.png', '--device'": (
        "tests the names of OpenVINO's devices"
    ),
    **dict.fromkeys(
        (
            "tests/runtime/server/test_chat_extensions.py::test_a_stream_ends_with_what_the_whole_answer_has",
            "tests/runtime/server/test_chat_extensions.py::test_a_heat_map_fits_the_region_and_the_text",
            "tests/runtime/server/test_chat_extensions.py::test_several_images_have_regions_and_heat_maps",
            "tests/runtime/server/test_chat_extensions.py::test_a_heat_map_of_a_straightened_region_is_turned_back",
        ),
        "ONNX Runtime gives no heat maps",
    ),
    "tests/runtime/test_thinking.py::test_the_heat_map": "ONNX Runtime gives no heat maps",
    "tests/runtime/test_vlm.py::test_eight_bit_cache": "the KV cache on ONNX Runtime is f32",
}
"""Start of a test's id, and why it cannot run on ONNX Runtime."""


def used() -> bool:
    """Return whether the suite runs on ONNX Runtime."""
    return os.environ.get(BACKEND) == "onnxruntime"


def use_onnxruntime() -> None:
    """Replace the embedded model in this process, and in those that it starts."""
    import vlrun.embedded

    if FOLDER not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="vlrun-onnx-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[FOLDER] = str(_export(folder, vlrun.embedded.FOLDER))
        site = str(ROOT / "tests" / "onnx_site")
        paths = [site, str(ROOT / "runtime"), str(ROOT / "export"), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    vlrun.embedded.FOLDER = Path(os.environ[FOLDER])


def skip_reason(test: str) -> str | None:
    """Return why a test cannot run on ONNX Runtime."""
    return next((reason for start, reason in SKIPPED.items() if test.startswith(start)), None)


def mark_skipped(items: list[pytest.Item]) -> None:
    """Skip what ONNX Runtime cannot do."""
    for item in items:
        if reason := skip_reason(item.nodeid):
            item.add_marker(pytest.mark.skip(reason=reason))


def _export(folder: Path, model: Path) -> Path:
    from vlrun import manifest

    out = folder / manifest.read(model).name  # a model is named after its folder
    paths = os.pathsep.join(str(ROOT / part) for part in ("runtime", "export", "."))
    environment = os.environ | {"PYTHONPATH": paths}
    for command in (
        ["training.restore", str(model), str(folder / "checkpoint")],
        ["vlrun.cli", "export", "--format", "onnx", "--no-check", str(folder / "checkpoint"), str(out)],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, env=environment, cwd=ROOT, capture_output=True)
    return out
