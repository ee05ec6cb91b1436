"""What a person does on the page at ``/``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.paths import EXAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Request

    from tests.runtime.server.web.browser import Watch

SHELF = EXAMPLES / "shelf.png"
PICTURE = ".viewer-pane img.picture >> nth=0"


class Texts:
    """What the page says in its language: ``texts("app.retryIn", n=3)``, by file and name in ``web/i18n``."""

    def __init__(self, page: Page, language: str) -> None:
        self._page = page
        self._language = language
        self._files: dict[str, Mapping[str, Any]] = {}

    def __call__(self, key: str, **values: object) -> str:
        file, _, name = key.partition(".")
        if file not in self._files:
            read = "async ([file, language]) => (await import(`/web/i18n/${file}.js`)).default[language]"
            self._files[file] = self._page.evaluate(read, [file, self._language])
        text = self._files[file][name]
        if not isinstance(text, str):
            text = text["one" if values.get("n") == 1 and self._language == "en" else "other"]
        return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), text)


def button(where: Page | Locator, name: str) -> Locator:
    return where.get_by_role("button", name=name, exact=True)


def add_picture(page: Page) -> None:
    page.locator("input[type=file]").first.set_input_files(SHELF)
    page.locator(PICTURE).wait_for()


def ask(page: Page, question: str) -> None:
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")


def finish(page: Page, turns: int) -> str:
    """Wait until so many questions are answered. Returns the last answer."""
    turn = page.locator(".turn").nth(turns - 1)
    turn.locator(".turn-actions").wait_for()
    return turn.locator(".turn-answer .answer").inner_text()


def point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture, in shares of its sides, lies on the screen."""
    page.locator(PICTURE).scroll_into_view_if_needed()
    box = page.locator(PICTURE).bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def draw_box(page: Page, first: float, last: float, *, touch: bool) -> None:
    """Draw the focus box, from a point on the picture's diagonal to another one."""
    shares = [first + (last - first) * step / 4 for step in range(5)]
    points = [point(page, share, share) for share in shares]
    if not touch:
        page.mouse.move(*points[0])
        page.mouse.down()
        for each in points[1:]:
            page.mouse.move(*each)
        page.mouse.up()
        return
    session = page.context.new_cdp_session(page)
    for kind, (x, y) in zip(["touchStart", *["touchMove"] * 4], points, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def bring(page: Page, event: str, name: str) -> None:
    """Drop or paste a picture with this name."""
    page.evaluate(
        """async ([event, name]) => {
            const blob = await (await fetch("/web/example.png")).blob();
            const data = new DataTransfer();
            data.items.add(new File([blob], name, {type: "image/png"}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(event === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: data})
                : new ClipboardEvent("paste", {...options, clipboardData: data}));
        }""",
        [event, name],
    )


def sent_questions(watch: Watch) -> list[dict[str, Any]]:
    return [dict(r.post_data_json or {}) for r in watch.requests if r.url.endswith("/v1/chat/completions")]


def sent_images(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The images of a request."""
    parts = [part for message in body["messages"] if message["role"] == "user" for part in message["content"]]
    return [part["image_url"] for part in parts if part["type"] == "image_url"]


def uploads(watch: Watch) -> list[Request]:
    return [request for request in watch.requests if request.url.endswith("/v1/images") and request.method == "POST"]
