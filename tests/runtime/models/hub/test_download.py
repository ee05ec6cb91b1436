"""Downloads: resumed, checked, bounded, and what happens when the hub or the disk fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_server import Fault, HubServer
from tests.runtime.models.conftest import SmallDisk
from tests.runtime.models.hub.pulling import content, pull, visible
from vlrun.errors import HubError, OutputError
from vlrun.manifest import DECODER_BIN, DECODER_XML
from vlrun.models.hub.download import MAX_ATTEMPTS, MAX_WAIT_SECONDS
from vlrun.models.store.source import SOURCE


def ranges(hub: HubServer, name: str) -> list[str]:
    """Return the ranges of the requests for a file."""
    return [asked for method, path, asked in hub.requests if path.endswith(f"/{name}") and method == "GET"]


def is_intact(folder: Path, letters: Path) -> bool:
    files = content(folder)
    del files[SOURCE]
    return files == content(letters)


def test_a_cut_connection_is_resumed(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    hub.faults[DECODER_BIN] = Fault(cut_after=600_000, times=2)
    waits: list[float] = []
    assert is_intact(pull(hub, tmp_path, waits=waits).folder, letters)
    first, second, third = ranges(hub, DECODER_BIN)
    assert first == ""
    assert 500_000 < int(second[6:-1]) <= 600_000
    assert 1_100_000 < int(third[6:-1]) <= 1_200_000
    assert waits == [1, 1]  # each attempt made progress


def test_a_later_pull_goes_on_where_the_first_stopped(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="goes on where it stopped"):
        pull_once_cut(hub, tmp_path)
    assert visible(tmp_path) == []
    hub.faults.clear()
    hub.requests.clear()
    assert is_intact(pull(hub, tmp_path).folder, letters)
    assert [int(one[6:-1]) > 500_000 for one in ranges(hub, DECODER_BIN)] == [True]
    assert ranges(hub, DECODER_XML) == []  # what was complete is not fetched again


def pull_once_cut(hub: HubServer, store: Path) -> None:
    """Pull; after the first cut, the hub refuses to go on for a long time."""
    hub.faults[DECODER_BIN] = Fault(cut_after=600_000)

    def fail(_: float) -> None:
        hub.faults[DECODER_BIN] = Fault(status=503, headers={"Retry-After": "3600"})

    pull(hub, store, waits=Waits(fail))


class Waits(list[float]):
    """Calls a function instead of waiting."""

    def __init__(self, call: Callable[[float], None]) -> None:
        self._call = call

    def append(self, seconds: float) -> None:
        self._call(seconds)


def test_a_server_without_ranges_sends_all_again(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    """Guards a file that has its beginning twice."""
    hub.faults[DECODER_BIN] = Fault(cut_after=600_000, ignore_range=True, times=1)

    def without_ranges(_: float) -> None:
        hub.faults[DECODER_BIN] = Fault(ignore_range=True)

    assert is_intact(pull(hub, tmp_path, waits=Waits(without_ranges)).folder, letters)


def test_wrong_bytes_are_fetched_once_more(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    hub.faults[DECODER_BIN] = Fault(damage=True)
    assert is_intact(pull(hub, tmp_path).folder, letters)
    assert ranges(hub, DECODER_BIN) == ["", ""]


@pytest.mark.fault(40)
@pytest.mark.parametrize("name", [DECODER_BIN, DECODER_XML], ids=["SHA-256", "git"])
def test_wrong_bytes_again_are_an_error_and_not_kept(name: str, hub: HubServer, tmp_path: Path) -> None:
    hub.faults[name] = Fault(damage=True, times=99)
    with pytest.raises(HubError, match=f"sent other bytes of {name} than the checksum says"):
        pull(hub, tmp_path)
    assert visible(tmp_path) == []
    assert not list(tmp_path.rglob(name))


def test_what_changed_on_the_disk_between_two_pulls_is_fetched_again(
    hub: HubServer, letters: Path, tmp_path: Path
) -> None:
    """Guards a resumed file whose beginning is not what was downloaded: a power cut leaves zeros."""
    with pytest.raises(HubError):
        pull_once_cut(hub, tmp_path)
    part = next(tmp_path.rglob(DECODER_BIN))
    part.write_bytes(bytes(part.stat().st_size))
    hub.faults.clear()
    assert is_intact(pull(hub, tmp_path).folder, letters)


def test_more_bytes_than_listed_are_refused_at_once(hub: HubServer, tmp_path: Path) -> None:
    """Guards an answer that never ends and fills the disk."""
    hub.faults[DECODER_BIN] = Fault(extra=1 << 24, times=99)
    with pytest.raises(HubError, match=r"sends more than the 1,572,864 bytes of decoder\.bin"):
        pull(hub, tmp_path)
    assert all(path.stat().st_size <= 1_572_864 for path in tmp_path.rglob("*"))


def test_retry_after_is_honoured(hub: HubServer, tmp_path: Path) -> None:
    hub.faults[DECODER_BIN] = Fault(status=429, headers={"Retry-After": "7"}, times=2)
    waits: list[float] = []
    assert pull(hub, tmp_path, waits=waits).is_new
    assert waits == [7, 7]


def test_a_long_wait_is_left_to_the_user(hub: HubServer, tmp_path: Path) -> None:
    """Guards a command that sleeps for an hour without a word."""
    hub.faults[DECODER_BIN] = Fault(status=429, headers={"Retry-After": str(int(MAX_WAIT_SECONDS) + 1)}, times=99)
    waits: list[float] = []
    with pytest.raises(HubError, match="limits the number of requests: try again in 61 s; the same command goes on"):
        pull(hub, tmp_path, waits=waits)
    assert waits == []


def test_a_hub_that_keeps_failing_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults[DECODER_BIN] = Fault(status=503, times=99)
    waits: list[float] = []
    with pytest.raises(HubError, match="fails with status 503"):
        pull(hub, tmp_path, waits=waits)
    assert waits == [1, 2, 4, 8][: MAX_ATTEMPTS - 1]


def test_free_space_is_checked_before_the_download(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 << 20))
    with pytest.raises(OutputError, match=r"not enough space for 'acme/letters': it needs 0\.00 GB more"):
        pull(hub, tmp_path)
    assert DECODER_BIN not in hub.fetched()


@pytest.mark.fault(38)
def test_a_full_disk_ends_the_pull_and_the_next_goes_on(
    hub: HubServer, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the one place that writes; the space check cannot know what other programs write meanwhile."""
    write, written = os.write, 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > 800_000:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"cannot write decoder\.bin to .*: No space left on device; the same"):
            pull(hub, tmp_path)
    assert visible(tmp_path) == []
    hub.requests.clear()
    assert is_intact(pull(hub, tmp_path).folder, letters)
    assert ranges(hub, DECODER_BIN) != [""]


@pytest.mark.fault(38)
def test_a_disk_that_is_really_full(hub: HubServer, letters: Path, small_disk: SmallDisk) -> None:
    """The same without a stand-in: whatever step of a pull the disk refuses."""
    store = small_disk.folder
    with pytest.raises(OutputError, match="No space left on device"):
        pull(hub, store)
    assert visible(store) == []
    small_disk.enlarge()
    hub.requests.clear()
    assert is_intact(pull(hub, store).folder, letters)
    assert ranges(hub, DECODER_BIN) != [""]
