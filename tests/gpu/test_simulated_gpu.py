"""vlrun on OpenVINO's GPU plugin with a simulated integrated GPU: see README.md.

On the GPU, every token after prefill was wrong for a release, and nothing noticed. The numbers are those of README.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.simulated import NotInstallable, environment, install
from tests.paths import EXAMPLES, EXPORT, ROOT, RUNTIME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

F16 = "VLRUN_TEST_GPU_F16"
"""Set it to run the course in f16 too."""
REQUIRED = "VLRUN_REQUIRE_GPU"
"""Set by .ci/run: a simulated GPU that cannot be installed fails the tests instead of skipping them."""


@dataclass(frozen=True)
class Course:
    """The outcome of course.py, and the home whose caches it filled."""

    home: Path
    outcome: Mapping[str, Any]


@pytest.fixture(scope="session")
def gpu() -> dict[str, str]:
    """Return the environment of processes that see the simulated GPU."""
    try:
        return environment(install())
    except (NotInstallable, OSError) as error:
        if os.environ.get(REQUIRED):
            pytest.fail(f"the simulated GPU cannot be installed: {error}")
        pytest.skip(f"the simulated GPU cannot be installed: {error}")


def run(gpu: Mapping[str, str], home: Path, command: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT, RUNTIME, EXPORT)))
    given = {**os.environ, **gpu, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(home), **more}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=given, capture_output=True, text=True, check=False)


def run_course(gpu: Mapping[str, str], home: Path, precision: str) -> Course:
    out = home / f"{precision}.json"
    done = run(gpu, home, ["-m", "tests.gpu.course", str(out), precision])
    assert done.returncode == 0, done.stderr[-3000:]
    return Course(home, json.loads(out.read_text()))


@pytest.fixture(scope="module")
def course(gpu: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Course:
    return run_course(gpu, tmp_path_factory.mktemp("gpu"), "f32")


def compared(course: Course, part: str) -> dict[str, Mapping[str, float]]:
    """Return the comparisons of one part by pass."""
    found = {name: values for name, values in course.outcome["compared"].items() if name.startswith(f"{part}:")}
    assert found
    return found


ONE_SEQUENCE = {"prefill", "steps"}
PASSES = {"f32": ONE_SEQUENCE, "u8": {*ONE_SEQUENCE, "rollback", "mixed batch", "moved blocks"}}
"""By precision of the KV cache."""


def test_the_vision_encoder_agrees_with_the_cpu(course: Course) -> None:
    """With dynamic shapes in two sizes, and with static ones."""
    assert "simulated" in course.outcome["device"]
    assert len(compared(course, "vision")) == 2
    for part in ("vision", "vision, static shapes"):
        for name, values in compared(course, part).items():
            assert values["largest_difference"] < 0.01, name
            assert values["similarity"] > 0.99999, name


@pytest.mark.parametrize(("precision", "difference", "likeness"), [("f32", 0.01, 0.99999), ("u8", 0.5, 0.999)])
def test_the_decoder_agrees_with_the_cpu(course: Course, precision: str, difference: float, likeness: float) -> None:
    """Prefill alone was right when the plugin did not write back to the cache."""
    part = f"decoder, KV {precision}"
    found = compared(course, part)
    assert {name.split(": ")[1] for name in found} == PASSES[precision]
    for name, values in found.items():
        assert values["largest_difference"] < difference, name
        assert values["similarity"] > likeness, name
        assert values["same_top"] >= (1 if precision == "f32" else 0.9), name
    if precision == "u8":
        assert course.outcome["equal"][f"{part}: moved"]


def test_8_bit_keys_are_quantized_by_token(course: Course) -> None:
    """By channel, the plugin refuses its own block size."""
    keys, values = course.outcome["ports"]["decoder, KV u8"]
    assert re.search(r"key_cache.0\] shape\[\?,2,72,16\] type: i8", keys)
    assert re.search(r"value_cache.0\] shape\[\?,2,16,72\] type: i8", values)


def test_the_second_start_imports_the_compiled_models(course: Course) -> None:
    """With the same bits. The vision encoder's is imported by ``vlrun ask`` below."""
    counts = course.outcome["compiled"]
    assert counts["vision"] == counts["decoder, KV u8"] == [1, 0]
    assert counts["decoder, KV u8 again"] == [0, 1]
    assert course.outcome["equal"]["decoder, KV u8 again"]


def test_the_probe_finds_a_cache_that_is_not_written_back(course: Course) -> None:
    """The fault that this device had: the check at the first load would have found it."""
    assert course.outcome["broken_cache_similarity"] < 0.9


def test_the_driver_is_part_of_what_compiled_models_depend_on(course: Course, gpu: Mapping[str, str]) -> None:
    assert re.search(r"driver=\d", course.outcome["runtime"])
    script = "from vlrun.backends.openvino.device import ov, runtime_of; print(runtime_of(ov.Core(), 'GPU'))"
    done = run(gpu, course.home, ["-c", script], FAKE_IGPU_DRIVER="99.1")
    assert "driver=99.1" in done.stdout, done.stderr


def test_vlrun_ask_answers_on_the_gpu_after_comparing_it_with_the_cpu(course: Course, gpu: Mapping[str, str]) -> None:
    """And the verdict is stored."""
    question = [str(EXAMPLES / "shelf.png"), "How many bottles are there?"]
    asked = ["-m", "vlrun.cli", "ask", *question, "--device", "GPU", "--vision-precision", "f32", "--json"]
    done = run(gpu, course.home, asked)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["answer"] == "6"
    assert "device" not in done.stderr
    (stored,) = (course.home / "vlrun" / "devices").glob("*.json")
    verdict = json.loads(stored.read_text())
    assert "driver=" in verdict["runtime"]
    assert {found["part"]: found["agrees"] for found in verdict["results"]} == {"vision encoder": True, "decoder": True}


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("GPU.5", "there is no device 'GPU.5'; available: CPU, GPU"),
        ("NPU", "vlrun cannot use the NPU: OpenVINO's NPU plugin supports neither PagedAttention nor"),
    ],
)
def test_devices_that_do_not_exist_are_refused_in_one_sentence(
    gpu: Mapping[str, str], tmp_path: Path, device: str, sentence: str
) -> None:
    done = run(gpu, tmp_path, ["-m", "vlrun.cli", "ask", "--device", device, str(EXAMPLES / "shelf.png"), "How many?"])
    assert done.returncode == 6
    assert f"vlrun: {sentence}" in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.skipif(not os.environ.get(F16), reason=f"f16 takes a minute of CPU time: set {F16} to run it")
def test_f16_agrees_with_the_cpu(gpu: Mapping[str, str], tmp_path: Path) -> None:
    course = run_course(gpu, tmp_path, "f16")
    for part in ("vision", "vision, static shapes", "decoder, KV u8"):
        for name, values in compared(course, part).items():
            assert values["similarity"] > 0.99, name
