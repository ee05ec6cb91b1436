"""One service for all tests that only ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.server.running_server import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A service on the embedded model, with its usual limits."""
    with serving() as running:
        yield running
