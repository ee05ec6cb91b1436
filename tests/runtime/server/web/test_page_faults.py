"""The page at ``/`` when something is wrong: a clear message, and nothing that was typed is lost."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.runtime.server.running_server import KEY, Server
from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.page_steps import Texts, add_picture, ask, bring, button, finish, uploads

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

REFUSALS = [
    (400, "invalid_value", "request", True),
    (400, "context_length_exceeded", "context", False),
    (403, "origin_not_allowed", "forbidden", False),
    (404, "not_found", "missing", True),
    (408, "timeout", "slow", True),
    (413, "body_too_large", "large", False),
    (415, "unsupported_image", "format", False),
    (429, "busy", "busy", True),
    (500, "internal_error", "fault", True),
    (502, "bad_gateway", "unreachable", True),
    (503, "stopping", "stopping", True),
    (504, "deadline_exceeded", "deadline", True),
]


@pytest.mark.parametrize("language", ["zh"])
def test_each_refusal_is_explained_and_nothing_is_lost(
    opened: Page, context: BrowserContext, watch: Watch, texts: Texts
) -> None:
    watch.allow("Failed to load resource")
    for number, (status, code, title, again) in enumerate(REFUSALS):
        fakes.refuse(context, status, code)
        ask(opened, f"question {number}")
        turn = opened.locator(".turn").nth(number)
        alert = turn.get_by_role("alert")
        alert.get_by_text(texts(f"errors.{title}Title"), exact=True).wait_for()
        assert alert.get_by_text(texts(f"errors.{title}Advice"), exact=True).count() == 1
        assert turn.locator(".question-text").inner_text() == f"question {number}"
        assert button(alert, texts("common.retry")).count() == again
    assert not serious_issues(opened)
    opened.locator("#question").fill("typed meanwhile")
    fakes.answer(context, "Six.")
    for number, (*_, again) in enumerate(REFUSALS):
        turn = opened.locator(".turn").nth(number)
        if again:
            button(turn, texts("common.retry")).click()
        else:
            button(turn, texts("app.edit")).click()
            assert opened.locator("#question").input_value() == f"question {number}"
            opened.locator("#question").fill("typed meanwhile")
            continue
        assert "Six." in finish(opened, number + 1)
    opened.wait_for_timeout(1000)  # a page that is closed within the same milliseconds may lose what is being saved
    opened.reload()
    opened.locator(".turn").nth(len(REFUSALS) - 1).wait_for()
    assert opened.locator("#question").input_value() == "typed meanwhile"


def test_a_busy_service_is_asked_again_by_itself_and_a_lost_one_waited_for(
    page: Page, site: str, context: BrowserContext, watch: Watch, clock: None
) -> None:
    """Also when it is too busy to take the picture."""
    watch.allow("status of 429")
    watch.allow("ERR_INTERNET_DISCONNECTED")
    page.goto(site)
    page.locator(".dot-ok").wait_for()
    fakes.refuse(context, 429, "busy", path="**/v1/images", retry_after=60)
    fakes.refuse(context, 429, "busy", retry_after=60)
    add_picture(page)
    ask(page, "How many bottles?")
    page.get_by_role("alert").get_by_text("The model is busy").wait_for()
    page.get_by_text("Asking again in 6").or_(page.get_by_text("Asking again in 5")).wait_for()
    context.unroute("**/v1/images")
    with page.expect_request(fakes.COMPLETIONS):
        page.clock.run_for(61_000)
    page.get_by_role("alert").get_by_text("The model is busy").wait_for()
    fakes.answer(context, "Six.")
    page.clock.run_for(61_000)
    assert finish(page, 1) == "Six."

    context.unroute(fakes.COMPLETIONS)
    context.set_offline(True)
    page.clock.run_for(11_000)
    page.clock.run_for(3_000)
    page.get_by_text("The service cannot be reached. What you typed is kept").wait_for()
    ask(page, "Describe a shelf.")
    alert = page.get_by_role("alert").filter(has_text="The service cannot be reached")
    alert.get_by_text("Waiting for the service").wait_for()
    assert not serious_issues(page)
    fakes.answer(context, "Six.")
    context.set_offline(False)
    page.clock.run_for(3_000)
    page.locator(".offline").wait_for(state="detached")
    button(page, "Ask again").click()
    assert finish(page, 2) == "Six."


def _sending(events: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=events, content_type="text/event-stream")


def test_answers_that_break_off_or_are_empty_are_explained(opened: Page, context: BrowserContext) -> None:
    """Guards a page that shows nothing, and remarks with names of options in the place of an answer."""
    half = fakes.events(fakes.words("Half an answer")[:2], ended=False)
    fakes.answer(context, "Six.")
    context.route(fakes.COMPLETIONS, _sending(half), times=1)
    ask(opened, "How many bottles?")
    opened.get_by_role("alert").get_by_text("The connection broke off").wait_for()
    opened.get_by_text("Half an").wait_for()
    opened.locator("#question").fill("next question")
    button(opened, "Ask again").click()
    assert finish(opened, 1) == "Six."
    assert opened.locator("#question").input_value() == "next question"

    fakes.answer(context, "", notes=["limited to 512 visual tokens per image"])
    ask(opened, "How many bottles?")
    opened.get_by_text("The model gave an empty answer.").wait_for()
    note = opened.get_by_text("limited to 512 visual tokens")
    assert not note.is_visible()
    opened.get_by_text("Notes (1)").click()
    note.wait_for()

    for turn, (code, title) in enumerate([("deadline_exceeded", "took too long"), ("stopping", "is not ready")]):
        error = {"error": {"message": "refused by the test", "type": "server_error", "param": None, "code": code}}
        events = fakes.events([*fakes.words("Half")[:1], error], ended=False)
        context.unroute(fakes.COMPLETIONS)
        context.route(fakes.COMPLETIONS, _sending(events))
        ask(opened, "How many bottles?")
        opened.get_by_role("alert").nth(turn).get_by_text(title).first.wait_for()


def test_stop_does_not_wait_for_a_picture_that_is_on_its_way(opened: Page, context: BrowserContext) -> None:
    """Guards also a Stop button that no longer belonged to the question that was being answered."""
    held: list[Route] = []
    context.route("**/v1/images", lambda route: held.append(route))  # noqa: PLW0108 - Playwright needs it
    context.route(fakes.COMPLETIONS, lambda route: None)  # never answers
    add_picture(opened)
    ask(opened, "How many bottles?")
    button(opened, "Stop").click()
    opened.get_by_text("Stopped.").first.wait_for()
    button(opened, "New conversation").click()
    ask(opened, "What is new?")
    held[0].continue_()
    opened.wait_for_timeout(300)
    button(opened, "Stop").click()
    opened.get_by_text("Stopped.").first.wait_for()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces this size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "JPEG")
    return file.getvalue()


SCRIPT = b"<script>document.title='owned'</script>"
HOSTILE = {
    "empty.png": b"",
    "broken.jpg": _jpeg()[:300],
    "giant.png": png_header(60_000, 60_000),
    "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>",
    "script.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF",
    "script.png": SCRIPT,
    "<img src=x onerror=alert(1)>.png": b"not a picture at all",
}


def test_files_that_are_no_pictures_are_explained(opened: Page, watch: Watch, tmp_path: Path) -> None:
    watch.allow("status of 4")
    title = opened.title()
    opened.locator("#question").fill("typed before")
    for name, content in HOSTILE.items():
        path = tmp_path / name
        path.write_bytes(content)
        opened.locator("input[type=file]").first.set_input_files(path)
        toast = opened.locator(".toast", has_text=f"{name}: ")
        toast.get_by_text("cannot be read").or_(toast.get_by_text("not supported")).first.wait_for()
    assert opened.locator("img[src=x], .thumb").count() == 0
    assert opened.title() == title
    assert opened.locator("#question").input_value() == "typed before"


def test_large_pictures_are_made_smaller(opened: Page, context: BrowserContext, watch: Watch) -> None:
    """Within the limits that the service tells; and as far as a service needs it that takes still less."""
    watch.allow("status of 413")

    def ready(route: Route) -> None:
        body = route.fetch().json()
        route.fulfill(json={**body, "limits": {"image_pixels": 90_000, "images": 16, "body_bytes": 24_096}})

    context.route("**/health/ready", ready)
    opened.reload()
    opened.locator(".dot-ok").wait_for()
    add_picture(opened)
    opened.locator(".toast", has_text="shelf.png is larger than the service takes.").wait_for()
    ask(opened, "How many bottles are there?")
    finish(opened, 1)
    (sent,) = (request.response() for request in uploads(watch))
    assert sent is not None
    image = sent.json()
    assert image["width"] * image["height"] <= 90_000
    assert image["bytes"] <= 20_000

    context.route(
        "**/v1/images", lambda route: route.fulfill(status=413, json={"error": {"code": "body_too_large"}}), times=2
    )
    bring(opened, "drop", "other.png")
    opened.locator(".toast", has_text="It is sent as JPEG").first.wait_for()
    ask(opened, "Which picture has more bottles?")
    finish(opened, 2)


class TestKey:
    """A service that asks for a key."""

    @pytest.fixture
    def site(self, strict_server: Server) -> str:
        return strict_server.url

    def test_the_key_is_asked_for_and_kept_for_the_session(
        self, page: Page, site: str, context: BrowserContext, watch: Watch
    ) -> None:
        watch.allow("status of 401")
        page.goto(site)
        field = page.get_by_label("API key", exact=True)
        field.wait_for()
        assert not serious_issues(page)
        field.fill("wrong")
        field.press("Enter")
        page.get_by_text("does not accept this key").wait_for()
        field.fill(KEY)
        field.press("Enter")
        field.wait_for(state="detached")
        page.reload()
        page.get_by_text("vlrun-tiny").first.wait_for()
        assert page.get_by_label("API key", exact=True).count() == 0
        assert KEY not in page.evaluate("Object.values(localStorage).join()")

        fakes.refuse(context, 401, "invalid_api_key")  # the operator has changed it
        ask(page, "How many bottles?")
        field.wait_for()
        fakes.answer(context, "Six.")
        field.fill(KEY)
        field.press("Enter")
        assert finish(page, 1) == "Six."
