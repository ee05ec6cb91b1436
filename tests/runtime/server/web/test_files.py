"""PDF files and phone photos on the page at ``/``, with a real service."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.paths import EXAMPLES
from tests.runtime.media.pdf_files import pdf
from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.page_steps import ask, finish, sent_questions, uploads

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

SHELVES = EXAMPLES / "shelves.pdf"
FILES = """async () => {
    const opened = indexedDB.open("vlrun");
    await new Promise((done) => (opened.onsuccess = done));
    const records = opened.result.transaction("pictures").objectStore("pictures").getAll();
    return new Promise((done) => (records.onsuccess = () => done(records.result.filter(({blob}) => blob).length)));
}"""
"""How many files the browser keeps."""
HOSTILE = "<img src=x onerror=alert(1)>.pdf"


def drop(page: Page, content: bytes, name: str, kind: str = "") -> None:
    """Drop a file on the page."""
    page.evaluate(
        """([text, name, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), (char) => char.charCodeAt(0))], name, {type}));
            document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )


@pytest.mark.parametrize(("size", "language", "scheme"), [("desktop", "en", "light"), ("phone", "zh", "dark")])
def test_a_page_of_a_pdf_is_chosen_by_its_picture_and_asked_about(page: Page, site: str, watch: Watch) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    page.goto(site)
    page.locator("#question").wait_for()
    drop(page, SHELVES.read_bytes(), HOSTILE, "application/pdf")
    dialog = page.get_by_role("dialog")
    dialog.locator(".page-thumb img").nth(1).wait_for()
    assert not serious_issues(page)
    dialog.locator(".page-thumb").nth(1).click()
    dialog.locator(".page-numbers button").click()
    page.locator(".viewer-pane img.picture").wait_for()
    ask(page, "How many bottles are there?")
    assert "3" in finish(page, 1)
    assert len(uploads(watch)) == 1
    (body,) = sent_questions(watch)
    assert body["messages"][-1]["content"][0]["image_url"]["url"].endswith("#page=2")
    assert page.locator("img[src=x]").count() == 0


def test_pages_are_chosen_by_number(page: Page, site: str, context: BrowserContext) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    page.goto(site)
    bodies = fakes.answer(context, "Yes.")
    page.locator("input[type=file]").first.set_input_files(
        {"name": "a.pdf", "mimeType": "application/pdf", "buffer": pdf([b""] * 60, box="0 0 40 60")}
    )
    dialog = page.get_by_role("dialog")
    numbers = dialog.get_by_role("textbox")
    add = dialog.locator(".page-numbers button")
    for text, trouble in {"61": "1 to 60", "x": "1 to 60", "1-": "16 pages at most"}.items():
        numbers.fill(text)
        dialog.get_by_role("alert").filter(has_text=trouble).wait_for()
        assert add.is_disabled()
    numbers.fill("60, 2-3")
    assert dialog.locator(".page-thumb[aria-pressed=true]").count() == 2  # the last one is not shown yet
    numbers.press("Enter")
    page.locator(".strip .thumb").nth(2).wait_for()
    dialog.wait_for(state="hidden")
    ask(page, "Is it?")
    finish(page, 1)
    urls = [part["image_url"]["url"] for part in bodies[0]["messages"][-1]["content"] if part["type"] == "image_url"]
    assert [url.rpartition("#")[2] for url in urls] == ["page=60", "page=2", "page=3"]
    page.get_by_role("button", name="History").click()  # which saves the conversation
    page.locator(".history li").wait_for()
    page.reload()
    page.locator(".strip .thumb").nth(2).wait_for()
    ask(page, "Is it still?")
    finish(page, 2)
    assert json.dumps(bodies[1]).count("#page=") == 3
    assert page.evaluate(FILES) == 1  # three pages of one file


def test_a_photo_that_the_browser_cannot_show_is_shown_by_the_service(page: Page, site: str) -> None:
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    page.goto(site)
    page.locator("#question").wait_for()
    drop(page, (EXAMPLES / "shelf.heic").read_bytes(), "IMG_0001.HEIC", "image/heic")
    picture = page.locator(".viewer-pane img.picture")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 640


SOUGHT = """video => new Promise(done => {
    const look = () => Math.abs(video.currentTime - 1.5) < 0.2 ? done(true) : setTimeout(look, 50);
    look();
})"""
"""Waits until a video is at the moment that was chosen."""


@pytest.mark.parametrize(("size", "language"), [("phone", "zh")])
def test_a_short_video_is_shown_asked_about_and_its_times_lead_to_moments(
    page: Page, site: str, context: BrowserContext
) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    from tests.video_clips import video

    page.goto(site)
    page.locator("#question").wait_for()
    drop(page, video(40, form="webm", codec="libvpx", size=(192, 128)), HOSTILE, "video/webm")
    player = page.locator(".video-view video")
    player.wait_for()
    loaded = "video => video.readyState > 0 || new Promise((done) => (video.onloadedmetadata = () => done(true)))"
    assert player.evaluate(loaded)
    ask(page, "What color is it?")
    finish(page, 1)  # the embedded model has something to say, without a time
    bodies = fakes.answer(context, "From 1.5 to 3 seconds.", times=[{"start": 1.5, "end": 3.0}])
    ask(page, "When does it happen?")
    finish(page, 2)
    page.locator(".times button").click()
    assert player.evaluate(SOUGHT)
    (part, *_) = bodies[0]["messages"][0]["content"]
    assert part["type"] == "video_url"
    assert part["video_url"]["url"].startswith("vlrun:img_")
    assert not serious_issues(page)
    assert page.locator("img[src=x]").count() == 0


TROUBLES: list[tuple[dict[str, str], str]] = [
    (
        {"code": "missing_extra", "message": "the file is a PDF file: run pip install 'vlrun[pdf]'"},
        "pip install 'vlrun[pdf]'",
    ),
    ({"code": "unsupported_image", "message": "the file is encrypted: save it without a password first"}, "encrypted"),
    ({"code": "invalid_image", "message": "the file is damaged or cut short"}, "damaged"),
]


def test_a_pdf_that_cannot_be_used_is_explained(opened: Page, context: BrowserContext, watch: Watch) -> None:
    watch.allow("400")
    opened.locator("#question").fill("What I typed")
    for error, words in TROUBLES:
        fakes.refuse(context, 400, error["code"], path="**/v1/images", message=error["message"])
        drop(opened, b"%PDF-1.7", HOSTILE, "application/pdf")
        opened.locator(".toast").filter(has_text=words).wait_for()
    assert opened.locator("#question").input_value() == "What I typed"
    assert opened.locator("img[src=x]").count() == 0
