"""Messages of libraries, as users see them: one sentence without places in source code."""

from __future__ import annotations

import pytest

from vlrun.errors import MAX_REASON, DeviceError, as_vlrun_error, reason_of

BUILD_FAILED = """Exception from src/inference/src/cpp/core.cpp:117:
Exception from src/inference/src/dev/plugin.cpp:54:
Check 'false' failed at src/plugins/intel_gpu/src/plugin/program_builder.cpp:168:
[GPU] ProgramBuilder build failed!
Exception from src/plugins/intel_gpu/src/runtime/ocl/ocl_kernel_builder.hpp:73:
[GPU] clBuildProgram, error code: -11 CL_BUILD_PROGRAM_FAILURE



"""
BLOCK_SIZE = """Exception from src/inference/src/cpp/core.cpp:117:
Check '!quantized || expected == size' failed at src/plugins/intel_gpu/src/plugin/ops/paged_attention.cpp:89:
[GPU] Incorrect block size. Expected 20, but got 24
"""


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (BUILD_FAILED, "ProgramBuilder build failed; clBuildProgram, error code: -11 CL_BUILD_PROGRAM_FAILURE"),
        (BLOCK_SIZE, "Incorrect block size. Expected 20, but got 24"),
        ("Check 'a > b' failed at src/core/x.cpp:12: too few inputs", "too few inputs"),
        ("out of memory", "out of memory"),
        ("", "RuntimeError"),
        ("Exception from src/a.cpp:1:\n\n", "RuntimeError"),
        ("x" * 5000, "x" * MAX_REASON + "..."),
    ],
)
def test_openvinos_exceptions_become_one_sentence(raw: str, sentence: str) -> None:
    """They were shown as they are: lines of C++ files, or only the last line, which says little."""
    assert reason_of(RuntimeError(raw)) == sentence
    error = as_vlrun_error(RuntimeError(raw))
    assert isinstance(error, DeviceError)
    assert str(error) == f"the device failed: {sentence}"
