"""``POST /v1/tokenize``: how many tokens a prompt takes, its images too, without an answer being made.

Knows the model's counting and the request's words; does not know how images become tokens, nor the request's way.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vlrun.engine.request import Cancellation
from vlrun.server.api import strict_json
from vlrun.server.api.chat_parser import read_tokenize
from vlrun.server.api.other_responses import TokenCount, token_count
from vlrun.server.images import check
from vlrun.server.request_handler import RequestHandler


def counted(desk: RequestHandler, names: Sequence[str], body: bytes) -> bytes:
    """The answer to a request's body. To be called in a thread. Raises ApiError and VlrunError."""
    return msgspec.json.encode(_counted(desk, names, body))


def _counted(desk: RequestHandler, names: Sequence[str], body: bytes) -> TokenCount:
    asked = read_tokenize(strict_json.parse(body, desk.limits), names, desk.limits)
    if isinstance(asked, str):
        return token_count(len(desk.vlm.template.encode_text(asked)), 0, desk.vlm.context)
    check(asked.images, desk.limits)
    prompt = desk.vlm.build_prompt(desk.workshop.opened(asked, Cancellation()), asked.tools)
    visual = sum(grid.tokens for _, grid in prompt.images)
    return token_count(len(prompt.prompt.ids), visual, desk.vlm.context)
