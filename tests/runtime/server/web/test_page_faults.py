"""The page at ``/`` when something is wrong: a clear message, and nothing that was typed is lost."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.runtime.server.running_server import KEY, READY, Server
from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.test_page import SHELF, ask, finish, uploads

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(page: Page, site: str) -> Page:
    page.goto(site)
    page.locator("#question").wait_for()
    return page


@pytest.mark.parametrize(
    ("status", "code", "title"),
    [
        (400, "invalid_value", "did not accept"),
        (413, "body_too_large", "too large"),
        (429, "busy", "busy"),
        (500, "internal_error", "failed"),
        (503, "stopping", "not ready"),
        (504, "deadline_exceeded", "too long"),
    ],
)
def test_a_refused_question_is_explained_and_asked_again(
    opened: Page, context: BrowserContext, watch: Watch, status: int, code: str, title: str
) -> None:
    watch.allow(f"status of {status}")
    fakes.refuse(context, status, code, retry_after=30)
    ask(opened, "How many bottles?")
    alert = opened.locator(".turn [role=alert]")
    alert.get_by_text(title).first.wait_for()
    opened.locator(".question-text", has_text="How many bottles?").wait_for()
    assert not serious_issues(opened)
    fakes.answer(context, "Six.")
    alert.get_by_role("button", name="Ask again").click()
    assert "Six." in finish(opened, 1)


def test_a_stream_that_breaks_off_keeps_what_was_written(opened: Page, context: BrowserContext) -> None:
    half = fakes.events(fakes.words("Half an answer")[:2], ended=False)
    context.route(fakes.COMPLETIONS, lambda route: route.fulfill(body=half, content_type="text/event-stream"))
    ask(opened, "How many bottles?")
    opened.locator(".turn [role=alert]").get_by_text("connection").first.wait_for()
    opened.get_by_text("Half an").wait_for()
    opened.locator("#question").fill("next question")
    fakes.answer(context, "Six.")
    opened.get_by_role("button", name="Ask again").click()
    assert "Six." in finish(opened, 1)
    assert opened.locator("#question").input_value() == "next question"


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


HOSTILE = {
    "empty.png": b"",
    "broken.jpg": _jpeg()[:300],
    "giant.png": png_header(60_000, 60_000),
    "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='owned'</script></svg>",
    "script.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF",
    "text.png": b"not a picture at all",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_are_no_pictures_are_explained(opened: Page, watch: Watch, tmp_path: Path, name: str) -> None:
    watch.allow("status of 4")
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    opened.locator("#question").fill("typed before")
    opened.locator("input[type=file]").first.set_input_files(path)
    opened.locator("[role=alert]:not(:empty), [role=status]:not(:empty), .toast").first.wait_for()
    assert opened.title() != "owned"
    assert opened.locator("#question").input_value() == "typed before"


def test_the_page_reconnects_to_a_restarted_service(page: Page, context: BrowserContext, watch: Watch) -> None:
    """The picture is sent once more, and what was typed stays."""
    for allowed in ("ERR_CONNECTION_", "status of (404|503)", "ERR_INCOMPLETE", "ERR_EMPTY"):
        watch.allow(allowed)
    service = Server([])
    try:
        service.url = service.wait_for(READY)[1]
        watch.origin = service.url
        page.goto(service.url)
        page.locator("input[type=file]").first.set_input_files(SHELF)
        page.locator(".viewer-pane img.picture").wait_for()
        ask(page, "How many bottles are there?")
        assert "6" in finish(page, 1)
        service.process.kill()
        service.wait_for_exit()
        page.locator("#question").fill("What color is the bag?")
        page.locator("#question").press("Enter")
        page.locator(".turn [role=alert]").wait_for()
        port = service.port
        service = Server(["--port", str(port)])
        service.wait_for(READY)
        service.url = watch.origin
        page.get_by_role("button", name="Ask again").click()
        assert "red" in finish(page, 2)
        assert len(uploads(watch)) == 2
    finally:
        service.process.kill()
        service.wait_for_exit()


class TestKey:
    """A service that asks for a key."""

    @pytest.fixture
    def site(self, strict_server: Server) -> str:
        return strict_server.url

    def test_the_key_is_asked_for_and_kept_for_the_session(self, page: Page, site: str, watch: Watch) -> None:
        watch.allow("status of 401")
        page.goto(site)
        field = page.get_by_label("API key")
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
        assert page.get_by_label("API key").count() == 0
        assert page.evaluate("Object.values(localStorage).join()").find(KEY) == -1
