"""Hostile listings: nothing of them becomes a path, and every limit has a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hub_server import HubServer, entry_of
from tests.runtime.models.hub.pulling import REPOSITORY, pull, tree, visible
from vlrun.errors import HubRefused
from vlrun.models.hub.listing import (
    MAX_FETCHED,
    MAX_FILE_BYTES,
    MAX_LISTED,
    MAX_NAME_BYTES,
    MAX_TOTAL_BYTES,
    Listed,
    RemoteFile,
    check_fetched,
    check_listing,
)

NAMES = [
    "../evil.json",
    "..",
    "a/../../evil.json",
    "/etc/evil.json",
    "./evil.json",
    "a//evil.json",
    "a\\evil.json",
    "C:evil.json",
    "evil\0.json",
    "evil\n.json",
    "evil\x1b[2J.json",
    "evil\u202e.json",
    "",
    "a" * (MAX_NAME_BYTES + 1),
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_impossible_names(name: str, hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY].entries.append(entry_of(name, b"x"))
    store = tmp_path / "store"
    with pytest.raises(HubRefused, match="lists a file with an impossible name"):
        pull(hub, store)
    assert hub.fetched() == []
    assert {path for path in tree(tmp_path) if not path.startswith("store/.locks")} == set()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"size": None}, "impossible size"),
    "negative": ({"size": -1}, "impossible size"),
    "huge": ({"size": MAX_FILE_BYTES + 1}, "impossible size"),
    "text": ({"size": "12"}, "impossible size"),
    "no hash": ({"blobId": None, "lfs": None}, "without a checksum"),
    "wrong hash": ({"lfs": {"sha256": "abc", "size": 1, "pointerSize": 1}}, "without a checksum"),
    "a hash that is a path": ({"blobId": "../../x"}, "without a checksum"),
}


@pytest.mark.parametrize("case", WRONG)
def test_impossible_entries(case: str, hub: HubServer, tmp_path: Path) -> None:
    change, reason = WRONG[case]
    hub.repositories[REPOSITORY].entries.append({**entry_of("tokenizer.json", b"x"), **change})
    with pytest.raises(HubRefused, match=reason):
        pull(hub, tmp_path)
    assert visible(tmp_path) == []


def test_another_size_than_the_listed_one(hub: HubServer, tmp_path: Path) -> None:
    """The manifest of the repository contradicts the listing."""
    wrong = {**entry_of("tokenizer.json", b"x"), "size": 5}
    hub.repositories[REPOSITORY].entries.append(wrong)
    with pytest.raises(HubRefused, match=r"another tokenizer\.json than its manifest\.json says"):
        pull(hub, tmp_path)


def listed(name: object, size: object = 1) -> Listed:
    return Listed(name, size, "a" * 64, None)


def test_the_number_of_files_is_limited() -> None:
    at_limit = [listed(f"folder/{number}") for number in range(MAX_LISTED)]
    assert check_listing("r", at_limit) == {}
    with pytest.raises(HubRefused, match="20,001 files, the limit is 20,000"):
        check_listing("r", [*at_limit, listed("x")])


def test_what_is_fetched_is_limited() -> None:
    assert check_fetched("r", [RemoteFile(str(number), 1) for number in range(MAX_FETCHED)])
    with pytest.raises(HubRefused, match="needs 257 files, the limit is 256"):
        check_fetched("r", [RemoteFile(str(number), 1) for number in range(MAX_FETCHED + 1)])
    assert check_fetched("r", [RemoteFile(str(number), MAX_FILE_BYTES) for number in range(4)])
    with pytest.raises(HubRefused, match=f"the limit is {MAX_TOTAL_BYTES:,}"):
        check_fetched("r", [RemoteFile(str(number), MAX_FILE_BYTES) for number in range(5)])


@pytest.mark.parametrize("pair", [("config.json", "Config.json"), ("straße.json", "STRASSE.json"), ("é", "e\u0301")])
def test_names_that_collide_on_other_file_systems(pair: tuple[str, str]) -> None:
    with pytest.raises(HubRefused, match="one file on other systems"):
        check_fetched("r", [RemoteFile(name, 1) for name in pair])


def test_a_name_twice() -> None:
    with pytest.raises(HubRefused, match="twice"):
        check_listing("r", [listed("a"), listed("a")])


@settings(max_examples=50)
@given(st.text(max_size=20), st.integers() | st.none() | st.text())
def test_what_is_accepted_stays_in_its_folder(name: str, size: object) -> None:
    try:
        files = check_listing("r", [listed(name, size)])
    except HubRefused:
        return
    root = Path("/store")
    assert all((root / file).parent == root and (root / file) != root for file in files)
