"""``POST /v1/tokenize``: how many tokens a prompt takes, its pictures too, without an answer being made.

Knows the desk's bodies and threads; does not know how pictures become tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope, Send

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, VlrunError
from vlrun.service.api import strict_json
from vlrun.service.api.answers_other import TokenCount, token_count
from vlrun.service.api.read_chat import read_tokenize
from vlrun.service.desk import Desk, client_of
from vlrun.service.edge.bodies import hold_body
from vlrun.service.faults import api_error
from vlrun.service.pictures import check


async def count(desk: Desk, names: Sequence[str], scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request. Raises ApiError."""
    try:
        await desk.opened.wait()
        async with (
            hold_body(scope, receive, desk.limits, desk.bodies) as body,
            desk.admission.turn(client_of(scope), 1),
        ):
            counted = msgspec.json.encode(await desk.workshop.short(lambda: _counted(desk, names, body)))
    except AnswerCancelled:
        return
    except VlrunError as error:
        raise api_error(error) from error
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(counted)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": counted, "more_body": False})


def _counted(desk: Desk, names: Sequence[str], body: bytes) -> TokenCount:
    asked = read_tokenize(strict_json.parse(body, desk.limits), names, desk.limits)
    if isinstance(asked, str):
        return token_count(desk.vlm.count_text(asked), 0, desk.vlm.context)
    check(asked.pictures, desk.limits)
    tokens, visual = desk.vlm.count(desk.workshop.opened(asked, Cancellation()), asked.tools)
    return token_count(tokens, visual, desk.vlm.context)
