"""Errors of threads, and panics of Rust libraries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import decoders

from vlrun.errors import DamagedModel, DeviceError, OptionError, as_vlrun_error, is_panic, panics_as


def panic() -> None:
    """Let the tokenizer's library panic: it subtracts from an index."""
    decoders.Strip("a", 10**9, 10**9).decode(["a"])


@panics_as(OptionError, "the library crashed")
def decorated(call: Callable[[], None]) -> None:
    call()


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
