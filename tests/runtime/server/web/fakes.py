"""Answers of the service that a test gives itself: a text, an error, a configuration of the kiosk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

COMPLETIONS = "**/v1/chat/completions"
CONFIG = "/kiosk/config.json"

QUESTIONS: list[dict[str, Any]] = [
    {"label": {"en": "What is this?", "zh": "这是什么？"}},
    {"label": {"en": "How many bottles?", "zh": "有多少个瓶子？"}, "question": "How many bottles are there?"},
    {"label": "Count", "task": "count", "items": ["bottle"]},
]
KIOSK: Mapping[str, Any] = {
    "title": {"en": "Ask the shelf", "zh": "问问货架"},
    "logo": None,
    "idle_seconds": 60,
    "language": "auto",
    "theme": "auto",
    "free_text": True,
    "questions": QUESTIONS,
}


def events(chunks: Iterable[Mapping[str, Any]], *, ended: bool = True) -> str:
    """A stream of chunks. ``ended``: false for one that breaks off."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"] if ended else lines)


def words(text: str, **extension: Any) -> list[dict[str, Any]]:
    """The chunks of an answer. ``extension``: what its last one says in ``vlrun``."""
    pieces = [piece + " " for piece in text.split(" ")]
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    last = {"index": 0, "delta": {}, "finish_reason": "stop", **({"vlrun": extension} if extension else {})}
    return [*chunks, {"choices": [last]}]


def answer(where: BrowserContext | Page, text: str, **extension: Any) -> list[dict[str, Any]]:
    """Answer every question with this text. Returns the bodies of the requests, as they come."""
    bodies: list[dict[str, Any]] = []

    def fulfill(route: Route) -> None:
        bodies.append(route.request.post_data_json or {})
        route.fulfill(body=events(words(text, **extension)), content_type="text/event-stream")

    where.unroute(COMPLETIONS)
    where.route(COMPLETIONS, fulfill)
    return bodies


def refuse(
    where: BrowserContext | Page,
    status: int,
    code: str,
    *,
    path: str = COMPLETIONS,
    retry_after: int | None = None,
    message: str = "refused by the test",
) -> None:
    """Answer every request with an error."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    where.unroute(path)
    where.route(path, lambda route: route.fulfill(status=status, headers=headers, json=body))


def kiosk(page: Page, **changes: Any) -> None:
    """Configure the kiosk from its next load on. Without a route, which would keep the browser from using its cache."""
    script = """([path, config]) => {
        const real = fetch;
        window.fetch = async (where, options) => where === path ? Response.json(config) : real(where, options);
    }"""
    page.add_init_script(f"({script})({json.dumps([CONFIG, {**KIOSK, **changes}])})")


def images(where: BrowserContext | Page, calls: list[tuple[str, str]]) -> None:
    """Keep pictures as the service does. ``calls`` gets method and path of the requests, as they come."""
    image = {"id": "img_1", "object": "image", "url": "vlrun:img_1", "bytes": 1, "width": 320, "height": 256}

    def fulfill(route: Route) -> None:
        calls.append((route.request.method, route.request.url.rpartition("/v1/")[2]))
        route.fulfill(json=image)

    where.route("**/v1/images", fulfill)
    where.route("**/v1/images/*", fulfill)
