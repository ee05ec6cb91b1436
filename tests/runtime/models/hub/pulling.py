"""Pulls in the test's own process, with waits that take no time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.hub_server import HubServer
from vlrun.models.hub.client import Hub
from vlrun.models.hub.pull import Convert, Pull, Pulled
from vlrun.models.hub.reference import parse_reference
from vlrun.models.store.store import ModelStore

REPOSITORY = "acme/letters"


def pull(
    hub: HubServer,
    store: Path,
    text: str = REPOSITORY,
    *,
    weights: str | None = None,
    name: str | None = None,
    convert: Convert | None = None,
    waits: list[float] | None = None,
    waiting: Callable[[], object] = lambda: None,
) -> Pulled:
    """Pull ``text`` from the hub into the store. The seconds of all waits are appended to ``waits``."""
    waited = [] if waits is None else waits
    pulling = Pull(ModelStore(store), parse_reference(text, hub.endpoint), weights, name, convert, "run pip")
    return pulling.run(Hub(hub.endpoint), waiting, wait=waited.append)


def visible(store: Path) -> list[str]:
    """Return the names in the store."""
    return ModelStore(store).names()


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tree(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
