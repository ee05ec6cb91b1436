"""A hub on loopback with one model, of which only the decoder's weights are large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer, running_hub
from tests.runtime.model_folders import write_model_folder

WEIGHTS = 3 * (1 << 20) // 2


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that passes for a model until its graphs are read."""
    return write_model_folder(tmp_path_factory.mktemp("published") / "letters", WEIGHTS)


@pytest.fixture
def hub(letters: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The hub, which has the folder as ``acme/letters``."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub() as server:
        server.publish_folder("acme/letters", letters)
        yield server
