"""Request bodies, read whole and decompressed: each within its size and time, all together within a budget.

Starlette's RequestBodyLimitMiddleware bounds the size of a body, but neither its time nor the memory of all bodies.
"""

from __future__ import annotations

import asyncio
import io
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from starlette.types import Message, Receive, Scope

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import MIB, ServerLimits

STEP = MIB // 4
"""Bytes that a body takes from the budget at a time, as they arrive: an announced length takes nothing."""
CLOSE = (("connection", "close"),)
"""For answers to a request whose body was not read: its rest would be taken for the next request."""
ENCODINGS: Mapping[str, int] = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""zlib's ``wbits`` of each Content-Encoding (RFC 9110, 8.4.1)."""
UNSUPPORTED_ENCODING = ApiError(
    415,
    "the Content-Encoding must be gzip, deflate or identity",
    "unsupported_encoding",
    headers=(("accept-encoding", "gzip, deflate, identity"), *CLOSE),
)
DAMAGED = ApiError(400, "the body is not what its Content-Encoding says", "malformed_request", headers=CLOSE)


class BodyBudget:
    """Bytes of all bodies that are held at once, and of each client's. For one event loop."""

    def __init__(self, limit: int, client_limit: int) -> None:
        self._limit = limit
        self._client_limit = client_limit
        self._clients: Counter[str] = Counter()
        self.held = 0

    def take(self, count: int, client: str) -> None:
        """Take ``count`` bytes. Raises ApiError (429) if that many are not left."""
        if self.held + count > self._limit or self._clients[client] + count > self._client_limit:
            raise ApiError(429, "too many requests are being read", "busy", retry_after=1, headers=CLOSE)
        self.held += count
        self._clients[client] += count

    @contextmanager
    def hold(self, count: int, client: str) -> Iterator[None]:
        """Hold ``count`` bytes for a block. Raises ApiError (429)."""
        self.take(count, client)
        try:
            yield
        finally:
            self.give_back(count, client)

    def give_back(self, count: int, client: str) -> None:
        """Give back ``count`` bytes."""
        self.held -= count
        self._clients[client] -= count
        if not self._clients[client]:
            del self._clients[client]


@asynccontextmanager
async def hold_body(
    scope: Scope, receive: Receive, limits: ServerLimits, budget: BodyBudget, client: str
) -> AsyncIterator[bytes]:
    """The request's body, which counts against the client's budget until the block is left.

    Raises ApiError (400: no valid Content-Length or encoding, 408: too slow, 413: too large, 415: another encoding,
    429: no budget), and AnswerCancelled if the client leaves.
    """
    body, taken, arrived = io.BytesIO(), 0, 0  # BytesIO gives away its own buffer, a bytearray would be copied
    decoder, expected = _decoder(scope), _content_length(scope)
    _check_size(expected, limits)
    if decoder:
        expected = 0  # what it will be is not known
    deadline, more = asyncio.get_running_loop().time() + limits.body_seconds, True
    try:
        while more:
            message = await _receive(receive, deadline)
            sent, more = message.get("body", b""), message.get("more_body", False)
            arrived += len(sent)
            _check_size(arrived, limits)  # also of a compressed body that becomes nothing
            for part in _decompressed(decoder, sent) if decoder else (sent,):
                size = body.tell() + len(part)
                _check_size(size, limits)
                if size > taken:
                    steps = -(-size // STEP) * STEP
                    needed = (min(steps, expected) if expected else steps) - taken
                    budget.take(needed, client)
                    taken += needed
                body.write(part)
                if decoder:
                    await asyncio.sleep(0)  # a few bytes may become megabytes, and streams must not wait for them
        if decoder and not decoder.eof:
            raise replace(DAMAGED)
        yield body.getvalue()
    finally:
        budget.give_back(taken, client)


async def _receive(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            message = await receive()
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", "request_timeout", headers=CLOSE) from None
    if message["type"] == "http.disconnect":
        raise AnswerCancelled("the client left before its request was complete")
    return message


def _decoder(scope: Scope) -> zlib._Decompress | None:
    """A decompressor for the request's Content-Encoding; None if it has none. Raises ApiError (415)."""
    values = [value for name, value in scope["headers"] if name == b"content-encoding"]
    encoding = b",".join(values).decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        raise replace(UNSUPPORTED_ENCODING)
    return zlib.decompressobj(ENCODINGS[encoding])


def _decompressed(decoder: zlib._Decompress, sent: bytes) -> Iterator[bytes]:
    """Pieces of at most ``STEP`` bytes, so that a bomb is noticed before it is in memory. Raises ApiError (400)."""
    rest = sent
    while rest:
        try:
            yield decoder.decompress(rest, STEP)
        except zlib.error:
            raise replace(DAMAGED) from None
        if decoder.unused_data:  # data after the end, or several files in one
            raise replace(DAMAGED)
        rest = decoder.unconsumed_tail


def _check_size(size: int, limits: ServerLimits) -> None:
    if size > limits.max_body_mib * MIB:
        message = f"the body is larger than {limits.max_body_mib} MiB"
        raise ApiError(413, message, "request_too_large", headers=CLOSE)


def _content_length(scope: Scope) -> int:
    """Content-Length in bytes, 0 if there is none. Raises ApiError (400) for an invalid one."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    if not values:
        return 0
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 18:
        raise ApiError(400, "the Content-Length is not valid", "malformed_request", headers=CLOSE)
    return int(values[0])
