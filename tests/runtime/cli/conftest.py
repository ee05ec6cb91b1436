"""One small model is enough for the commands: what differs between the two is numerics."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

import vlrun
from vlrun import vlm as vlm_module
from vlrun.cli import commands


@pytest.fixture(scope="module")
def loaded_model() -> Iterator[vlrun.VLM]:
    """The embedded model."""
    with vlrun.load() as vlm:
        yield vlm


@pytest.fixture
def one_model(loaded_model: vlrun.VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all commands of a module that run in this process use the same model: loading it takes a second."""
    monkeypatch.setattr(vlm_module, "load", lambda *_, **__: loaded_model)
    monkeypatch.setattr(loaded_model, "close", lambda: None)


@pytest.fixture(scope="session")
def small_model(tied_model: Path) -> Path:
    """Use the tied one of the small models."""
    return tied_model


class RunHere(Protocol):
    """Runs ``vlrun`` as ``command_line.vlrun`` does, but in this process."""

    def __call__(self, *cli_args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...


class _Exited(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def run_here(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> RunHere:
    """Run commands in this process, from the arguments to the exit code: a process takes a second to start."""

    def leave(code: int) -> None:
        raise _Exited(code)

    monkeypatch.setattr(commands, "_exit", leave)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))

    def run(*cli_args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        arguments, code, handler = ["vlrun", *map(str, cli_args)], 0, signal.getsignal(signal.SIGINT)
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        try:
            commands.run()
        except _Exited as exited:
            (code,) = exited.args
        finally:
            signal.signal(signal.SIGINT, handler)
        sys.stderr.flush()
        return subprocess.CompletedProcess(arguments, code, *capfdbinary.readouterr())

    return run
