"""One service, shared by all tests that only send requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.runtime.server.running_server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A service with the embedded model and default limits."""
    from tests.runtime.server.running_server import serving

    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that demands ``KEY`` and ends every request after a second."""
    from tests.runtime.server.running_server import KEY, serving

    keys: Path = tmp_path_factory.mktemp("keys") / "keys"
    keys.touch(0o600)
    keys.write_text(f"{KEY}\n")
    with serving("--api-key-file", str(keys), "--deadline", "1") as running:
        yield running
