"""The HTTP client's connections."""

from __future__ import annotations

import pytest

from benchmarks.load.http_client import Address, KeepAliveClient, request
from tests.benchmarks.load.fake_service import HUNG_UP, answer, serve_responses


def test_a_closed_keep_alive_connection_is_reopened_but_a_fresh_one_fails() -> None:
    async def twice(address: Address) -> None:
        client = KeepAliveClient(address, "127.0.0.2")
        for _ in range(2):
            assert await client.ask(request(address, "/")) == (200, b"1")
        client.abort()

    async def once(address: Address) -> None:
        client = KeepAliveClient(address, "127.0.0.2")
        with pytest.raises(EOFError):
            await client.ask(request(address, "/"))
        client.abort()

    assert serve_responses([answer(1), HUNG_UP, answer(1)], twice) == 2
    assert serve_responses([HUNG_UP, answer(1)], once) == 1
