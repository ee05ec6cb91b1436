"""One service, shared by all tests that only send requests."""

from __future__ import annotations

from collections.abc import Iterator
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
