"""Pulls that are killed at random moments, and at each of their file operations."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import Fault, HubServer
from tests.paths import RUNTIME
from tests.runtime.models.hub.pulling import content, pull, visible
from vlrun.manifest import DECODER_BIN
from vlrun.models.store.source import SOURCE
from vlrun.models.store.store import ModelStore

KILLS = 32
SECONDS_PER_PIECE = 0.001
LONGEST = 0.35
"""Seconds within which a pull is killed at first. Each pull that is complete by then makes them fewer, so that the
number of kills does not depend on the speed of the machine."""


@pytest.fixture
def store() -> Iterator[Path]:
    """A store in memory, where possible: every pull flushes its files to disk, which takes most of its time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def forks(hub: HubServer) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("fork_server.py")
    command = [sys.executable, str(script), hub.endpoint]
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME)}
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(process: subprocess.Popen[str], store: Path, count: int = 0) -> int:
    """Start a pull in a child and return its process id."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{store} {count}\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def status(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def check_and_finish(hub: HubServer, store: Path, letters: Path) -> None:
    """Check that a model is whole if it is visible; then pull it to the end, check it, and remove it."""
    for name in visible(store):
        files = content(store / name)
        assert files.pop(SOURCE)
        assert files == content(letters)
    hub.faults.clear()
    files = content(pull(hub, store).folder)
    del files[SOURCE]
    assert files == content(letters)
    ModelStore(store).remove("letters")
    assert visible(store) == []
    assert not ModelStore(store).unfinished()


@pytest.mark.slow
@pytest.mark.fault(39)
def test_killed_at_random_moments(hub: HubServer, letters: Path, store: Path, forks: subprocess.Popen[str]) -> None:
    generator = random.Random(15)
    killed, longest = 0, LONGEST
    while killed < KILLS:
        hub.faults[DECODER_BIN] = Fault(seconds_per_piece=SECONDS_PER_PIECE, times=1 << 30)
        child = start(forks, store)
        time.sleep(generator.uniform(0, longest))
        with contextlib.suppress(ProcessLookupError):  # it was complete
            os.kill(child, signal.SIGKILL)
        if status(forks) == -signal.SIGKILL:
            killed += 1
        else:
            longest *= 0.9
        check_and_finish(hub, store, letters)


@pytest.mark.slow
@pytest.mark.fault(39)
def test_killed_at_file_operations(hub: HubServer, letters: Path, store: Path, forks: subprocess.Popen[str]) -> None:
    """Covers the moments that are too short to be hit by chance: between two renames, for example."""
    killed = 0
    for count in range(1, 200, 2):
        start(forks, store, count)
        if status(forks) == 0:
            break
        killed += 1
        check_and_finish(hub, store, letters)
    assert killed + KILLS >= 50


@pytest.mark.slow
@pytest.mark.fault(39)
def test_an_update_killed_at_file_operations_leaves_the_former_model_or_the_new_one(
    hub: HubServer, letters: Path, store: Path, forks: subprocess.Popen[str]
) -> None:
    """A model that is replaced never loses its name, and is never a mixture."""
    former = hub.repositories["acme/letters"].revisions["main"]
    pull(hub, store)
    kept = set()
    newer = {**hub.repositories["acme/letters"].files, "LICENSE": b"new terms"}
    hub.publish("acme/letters", newer)
    for count in range(20, 200):  # before, files are fetched, as above
        start(forks, store, count)
        if status(forks) == 0:
            break
        assert visible(store) == ["letters"]
        kept.add(content(store / "letters").get("LICENSE"))
        assert content(store / "letters")[DECODER_BIN] == newer[DECODER_BIN]
    assert kept <= {None, b"new terms"}
    assert content(store / "letters")["LICENSE"] == b"new terms"
    assert pull(hub, store).source.commit != former
    assert not ModelStore(store).unfinished()
