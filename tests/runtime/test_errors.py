"""Errors of threads, panics of Rust libraries, and what users see of libraries' messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import decoders

from vlrun.errors import (
    MAX_REASON,
    DamagedModel,
    DeviceError,
    OptionError,
    as_vlrun_error,
    is_panic,
    panics_as,
    reason_of,
)

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


def panic() -> None:
    """Let the tokenizer's library panic: it subtracts from an index."""
    decoders.Strip("a", 10**9, 10**9).decode(["a"])


@panics_as(OptionError, "the library crashed")
def decorated(call: Callable[[], None]) -> None:
    call()


@pytest.mark.fault(50)
def test_a_panic_becomes_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """PyO3's PanicException passes ``except Exception``: 11 MB of blanks ended a chat with 173 lines of trace."""
    for _ in range(2):
        with pytest.raises(OptionError, match="the library crashed"):
            decorated(panic)
    with pytest.raises(DamagedModel, match="damaged"), panics_as(DamagedModel, "damaged"):
        panic()
    capfd.readouterr()  # Rust writes to stderr


def test_a_panic_in_a_thread_becomes_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Threads keep their errors for the thread that waits."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - PanicException cannot be imported
        panic()
    capfd.readouterr()
    assert is_panic(caught.value)
    assert isinstance(as_vlrun_error(caught.value), DeviceError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), OptionError("x"), SystemExit(1)])
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        decorated(fail)
    assert caught.value is error
    assert not is_panic(error)


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
