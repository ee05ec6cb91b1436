"""The page at ``/`` in a browser, with a real service and the embedded model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import get, is_idle, wait_until
from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Request

    from tests.runtime.server.running_server import Server
    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

SHELF = EXAMPLES / "shelf.png"
COVERING = [("phone", "zh", "dark"), ("tablet", "en", "light"), ("desktop", "en", "dark")]
MAX_GROWTH = 64 * 2**20
"""Of a service in six turns: caches that fill up, not pictures that are kept. One picture in FP32 has 5 MB."""


@pytest.fixture
def opened(page: Page, site: str) -> Page:
    """The page with a picture."""
    page.goto(site)
    page.locator("input[type=file]").first.set_input_files(SHELF)
    page.locator(".viewer-pane img.picture").wait_for()
    return page


def ask(page: Page, question: str) -> None:
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")


def finish(page: Page, turns: int) -> str:
    """Wait until so many questions are answered. Returns the last answer."""
    turn = page.locator(".turn").nth(turns - 1)
    turn.locator(".turn-actions").wait_for()
    return turn.locator(".turn-answer .answer").inner_text()


def sent_questions(watch: Watch) -> list[dict[str, Any]]:
    return [dict(r.post_data_json or {}) for r in watch.requests if r.url.endswith("/v1/chat/completions")]


def uploads(watch: Watch) -> list[Request]:
    return [request for request in watch.requests if request.url.endswith("/v1/images") and request.method == "POST"]


@pytest.mark.parametrize(("size", "language", "scheme"), COVERING)
def test_several_questions_are_asked_about_a_picture_that_is_sent_once(page: Page, site: str, watch: Watch) -> None:
    page.goto(site)
    page.locator("#question").wait_for()
    assert not serious_issues(page)
    page.locator("input[type=file]").first.set_input_files(SHELF)
    page.locator(".viewer-pane img.picture").wait_for()
    ask(page, "How many bottles are there?")
    assert "6" in finish(page, 1)
    ask(page, "What color is the bag?")
    assert "red" in finish(page, 2)
    assert not serious_issues(page)
    assert len(uploads(watch)) == 1
    for body in sent_questions(watch):
        text = json.dumps(body)
        assert "vlrun:img_" in text
        assert "data:" not in text
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_ten_turns_leave_the_memory_of_the_service_flat(opened: Page, server: Server, watch: Watch) -> None:
    def resident() -> int:
        return int(get(server, "/health/ready").json["memory"]["resident_bytes"])

    before = 0
    for turn in range(1, 11):
        ask(opened, ("How many bottles are there?", "What color is the bag?")[turn % 2])
        finish(opened, turn)
        before = resident() if turn == 4 else before
    assert len(uploads(watch)) == 1
    wait_until(lambda: is_idle(server))
    assert resident() - before < MAX_GROWTH


def test_a_box_is_drawn_to_ask_about_a_part(opened: Page, watch: Watch) -> None:
    opened.get_by_role("button", name="Focus", exact=True).click()
    box = opened.locator(".viewer-pane img.picture").bounding_box()
    assert box is not None
    corners = [(box["x"] + box["width"] * share, box["y"] + box["height"] * share) for share in (0.1, 0.6)]
    opened.mouse.move(*corners[0])
    opened.mouse.down()
    opened.mouse.move(*corners[1], steps=5)
    opened.mouse.up()
    opened.locator(".region-box").wait_for()
    assert not serious_issues(opened)
    ask(opened, "How many bottles are there?")
    finish(opened, 1)
    (body,) = sent_questions(watch)
    image = body["messages"][-1]["content"][0]["image_url"]
    x, y, width, height = map(float, image["region"].removesuffix("/1000").split(","))
    assert [x, y, width, height] == pytest.approx([100, 100, 500, 500], abs=15)


def test_enhance_shows_before_and_after_and_heat_shows_where_the_model_looked(opened: Page, watch: Watch) -> None:
    opened.get_by_role("switch", name="Enhance").click()
    opened.locator(".compare, .compared").first.wait_for()
    opened.get_by_role("switch", name="Heat map").click()
    ask(opened, "How many bottles are there?")
    finish(opened, 1)
    opened.locator(".heat-frame canvas").wait_for()
    assert not serious_issues(opened)
    (body,) = sent_questions(watch)
    assert body["messages"][-1]["content"][0]["image_url"]["enhance"] is True
    assert body["vlrun"]["heatmap"] is True


def test_json_is_switched_on_and_shown_as_table_and_tree(opened: Page, context: BrowserContext) -> None:
    bodies = fakes.answer(context, '{"bottles": 6, "<img src=x onerror=alert(1)>": ["a"]}')
    opened.locator(".composer").get_by_role("button", name="JSON").click()
    ask(opened, "How many bottles are there?")
    finish(opened, 1)
    assert bodies[0]["response_format"]["type"] in {"json_object", "json_schema"}
    assert not serious_issues(opened)
    assert opened.locator(".turn-answer img").count() == 0
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Download JSON").click()
    assert json.loads(download.value.path().read_text())["bottles"] == 6


def test_a_task_counts_what_is_named(opened: Page, watch: Watch) -> None:
    opened.locator(".task", has_text="Count").first.click()
    opened.locator("#task-names").fill("bottle, can")
    opened.locator("#task-names").press("Enter")
    opened.get_by_role("button", name="Ask", exact=True).click()
    finish(opened, 1)
    (body,) = sent_questions(watch)
    assert body["vlrun"]["task"] == "count"
    assert body["vlrun"]["items"] == ["bottle", "can"]
    assert not serious_issues(opened)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: Page, site: str, event: str) -> None:
    page.goto(site)
    page.locator("#question").wait_for()
    page.evaluate(
        """async (event) => {
            const blob = await (await fetch("/web/example.png")).blob();
            const data = new DataTransfer();
            data.items.add(new File([blob], "<img src=x onerror=alert(1)>.png", {type: "image/png"}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(event === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: data})
                : new ClipboardEvent("paste", {...options, clipboardData: data}));
        }""",
        event,
    )
    page.locator(".viewer-pane img.picture").wait_for()
    assert page.locator("img[src=x]").count() == 0


def test_the_camera_takes_a_photo(page: Page, site: str) -> None:
    page.goto(site)
    page.get_by_role("button", name="Take photo").first.click()
    dialog = page.get_by_role("dialog")
    dialog.locator("video").wait_for()
    dialog.locator("button:enabled", has_text="Take photo").click()
    page.locator(".viewer-pane img.picture").wait_for()


def test_the_history_is_kept_found_exported_and_deleted(opened: Page, context: BrowserContext) -> None:
    fakes.answer(context, "Six bottles.")
    ask(opened, "How many bottles?")
    finish(opened, 1)
    opened.get_by_role("button", name="History").click()
    opened.locator(".history li").wait_for()
    assert not serious_issues(opened)
    opened.get_by_role("searchbox").fill("nothing like it")
    opened.get_by_text("Nothing found.").wait_for()
    opened.get_by_role("searchbox").fill("six")
    opened.locator(".history li").wait_for()
    with opened.expect_download():
        opened.get_by_role("button", name="Export all").click()
    opened.reload()
    opened.get_by_role("button", name="History").click()
    opened.locator(".history li").wait_for()
    opened.get_by_role("button", name="Delete all").click()
    opened.get_by_role("button", name="Delete all").click()
    opened.get_by_text("Your conversations will be listed here.").wait_for()
