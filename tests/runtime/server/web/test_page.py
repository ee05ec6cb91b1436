"""The page at ``/`` in a browser, with a real service and the embedded model.

Two people do all that the page offers: each at every size, in both languages and in both colour schemes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.http_client import get, is_idle, wait_until
from tests.runtime.server.web import accessibility
from tests.runtime.server.web.browser import SIZES, TOUCH
from tests.runtime.server.web.page_steps import (
    PICTURE,
    Texts,
    add_picture,
    ask,
    bring,
    button,
    draw_box,
    finish,
    sent_images,
    sent_questions,
    uploads,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.runtime.server.running_server import Server
    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

FIRST = [("phone", "en", "light"), ("tablet", "zh", "dark"), ("desktop", "en", "dark")]
SECOND = [("phone", "zh", "dark"), ("tablet", "en", "light"), ("desktop", "zh", "light")]
SCHEMA = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}},
    "required": ["bottles"],
    "additionalProperties": False,
}
NAME = "<img src=x onerror=alert(1)>.png"
SLOW = """
    const [real, encoder] = [fetch, new TextEncoder()];
    window.data = (percent) => {
        const progress = {phase: "vision", done: percent, total: 100, percent};
        return `data: ${JSON.stringify({choices: [], vlrun: {progress}})}`;
    };
    window.fetch = async (path, options) => {
        if (path !== "/v1/chat/completions") return real(path, options);
        return new Response(new ReadableStream({start(stream) {
            window.send = (line) => stream.enqueue(encoder.encode(`${line}\\n\\n`));
            send(": waiting");
            options.signal.addEventListener("abort", () => stream.error(options.signal.reason));
        }}));
    };
"""
"""An answer whose events a test sends."""
MAX_GROWTH = 64 * 2**20
"""Of a service in six turns: caches that fill up, not pictures that are kept. One picture in FP32 has 5 MB."""


def _check(page: Page) -> None:
    """Run axe-core on phone and desktop only, which have all arrangements of the page, in both colour schemes."""
    if (page.viewport_size or SIZES["desktop"])["width"] != SIZES["tablet"]["width"]:
        assert not accessibility.serious_issues(page)


@pytest.mark.parametrize(("size", "language", "scheme"), FIRST)
def test_answers_about_a_picture(opened: Page, texts: Texts, watch: Watch, size: str) -> None:
    _check(opened)
    add_picture(opened)
    _go_on_asking(opened, texts, watch)
    _light_up(opened, touch=size in TOUCH)
    _ask_about_a_part(opened, texts, watch, touch=size in TOUCH)
    _change_settings(opened, texts)
    _enhance_and_show_heat(opened, texts, watch)
    _see_the_service(opened)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _go_on_asking(page: Page, texts: Texts, watch: Watch) -> None:
    """A suggestion, then a question of one's own; the picture is sent once."""
    button(page, texts("app.shelfQuestions").split("|")[0]).click()
    page.locator("#question").press("Enter")
    assert "6" in finish(page, 1)
    ask(page, "Where is the orange can?")
    finish(page, 2)
    assert len(uploads(watch)) == 1
    for body in sent_questions(watch):
        assert "vlrun:img_" in json.dumps(body)
        assert "data:" not in json.dumps(body)


def _light_up(page: Page, *, touch: bool) -> None:
    """The box of the last answer is on the picture, and lights up with its name."""
    item = page.locator(".mark-item").first
    assert page.locator(".mark").count() == page.locator(".mark-item").count() > 0
    item.tap() if touch else item.hover()
    page.locator(".mark.active").wait_for()
    _check(page)


def _ask_about_a_part(page: Page, texts: Texts, watch: Watch, *, touch: bool) -> None:
    focus = button(page, texts("viewer.focus"))
    focus.tap() if touch else focus.click()
    draw_box(page, 0.1, 0.6, touch=touch)
    page.locator(".region-box").wait_for()
    _check(page)
    ask(page, "How many bottles are there?")
    finish(page, 3)
    (image,) = sent_images(sent_questions(watch)[-1])
    assert list(map(float, image["region"].removesuffix("/1000").split(","))) == pytest.approx(
        [100, 100, 500, 500], abs=15
    )
    button(page, texts("app.regionClear")).click()
    assert page.locator(".region-box").count() == 0


def _change_settings(page: Page, texts: Texts) -> None:
    button(page, texts("app.settings")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(texts("settings.temperature"), exact=True).fill("0.5")
    dialog.get_by_text(texts("settings.detailHigh"), exact=True).click()
    dialog.get_by_role("switch", name=texts("settings.timings")).click()
    _check(page)
    button(dialog, texts("settings.done")).click()
    dialog.wait_for(state="detached")


def _enhance_and_show_heat(page: Page, texts: Texts, watch: Watch) -> None:
    """The enhanced picture beside the original, and where the model looked: for the answer, then for a word."""
    page.get_by_role("switch", name=texts("app.enhance")).click()
    page.get_by_role("slider", name=texts("viewer.compare")).wait_for()
    page.get_by_role("switch", name=texts("app.heat")).click()
    ask(page, "How many bottles are there?")
    finish(page, 4)
    body = sent_questions(watch)[-1]
    (image,) = sent_images(body)
    assert (image["enhance"], image["detail"]) == (True, "high")
    assert (body["temperature"], body["vlrun"]) == (0.5, {"heatmap": True})
    page.locator(".heat-frame canvas").wait_for()
    page.locator(".turn:last-child .word").first.click()
    page.locator(".word.active").wait_for()
    names = page.locator(".turn:last-child .timings dt").all_inner_texts()
    expected = ["timeQueue", "timeVision", "timePrefill", "timeFirst", "tokensCached", "tokensAnswer"]
    assert {texts(f"app.{name}") for name in expected} <= set(names)
    _check(page)


def _see_the_service(page: Page) -> None:
    page.locator(".server-chip").click()
    page.get_by_role("dialog").get_by_text("vlrun-tiny").wait_for()
    assert page.get_by_role("dialog").locator("dd").count() == 7
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


@pytest.mark.parametrize(("size", "language", "scheme"), SECOND)
def test_pictures_tasks_and_data(opened: Page, texts: Texts, watch: Watch, language: str) -> None:
    _bring_pictures(opened, texts)
    ask(opened, "Which picture has more bottles?")
    finish(opened, 1)
    assert len(sent_images(sent_questions(watch)[-1])) == 3
    opened.locator(".question-marks", has_text=texts("app.pictureCount", n=3)).wait_for()
    for name in (texts("app.photo"), "pasted.png"):
        button(opened, texts("app.removePicture", name=name)).click()
    _answer_as_json(opened, texts)
    _count_with_votes(opened, texts, watch, language)
    _keep_history(opened, texts)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _bring_pictures(page: Page, texts: Texts) -> None:
    for count, (event, name) in enumerate([("drop", NAME), ("paste", "pasted.png")], 1):
        bring(page, event, name)
        page.locator(".thumb").nth(count - 1).wait_for()
    assert page.locator("img[src=x]").count() == 0
    button(page, texts("app.takePhoto")).first.click()
    dialog = page.get_by_role("dialog")
    take = button(dialog, texts("app.takeIt"))
    take.and_(page.locator(":enabled")).wait_for()
    _check(page)
    take.click()
    dialog.wait_for(state="detached")
    page.locator(".thumb").nth(2).wait_for()
    page.locator(PICTURE).wait_for()


def _answer_as_json(page: Page, texts: Texts) -> None:
    button(page, texts("tasks.jsonAnswer")).click()
    page.get_by_text(texts("tasks.schemaOwn")).click()
    page.get_by_label(texts("tasks.schemaLabel"), exact=True).fill(json.dumps(SCHEMA))
    ask(page, "How many bottles are there?")
    finish(page, 2)
    answer = page.locator(".turn:last-child .answer")
    bottles = answer.locator("td").nth(1).inner_text()
    assert answer.locator("td").all_inner_texts() == ["bottles", bottles]
    _check(page)
    answer.get_by_role("tab", name=texts("viewer.viewTree")).click()
    answer.get_by_role("treeitem").last.wait_for()
    button(answer, texts("viewer.copyJson")).click()
    answer.get_by_text(texts("viewer.copied")).wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == {"bottles": int(bottles)}
    with page.expect_download() as download:
        button(answer, texts("viewer.downloadJson")).click()
    assert json.loads(download.value.path().read_text()) == {"bottles": int(bottles)}
    answer.get_by_role("tab", name=texts("viewer.viewTable")).click()
    with page.expect_download() as download:
        button(answer, texts("viewer.downloadCsv")).click()
    assert f"bottles,{bottles}" in download.value.path().read_text(encoding="utf-8")
    button(page, texts("tasks.jsonAnswer")).click()


def _count_with_votes(page: Page, texts: Texts, watch: Watch, language: str) -> None:
    """Votes have no heat map, so that its switch is off."""
    heat = page.get_by_role("switch", name=texts("app.heat"))
    heat.click()
    button(page, texts("app.settings")).click()
    page.get_by_role("dialog").get_by_text("3", exact=True).click()
    button(page.get_by_role("dialog"), texts("settings.done")).click()
    button(page.locator(".composer"), texts("tasks.tasks")).click()
    page.locator("#task-menu .task", has_text=texts("tasks.countName")).click()
    assert (heat.is_disabled(), heat.get_attribute("aria-checked")) == (True, "false")
    page.locator("#task-names").fill("bottle, can")
    page.locator("#task-names").press("Enter")
    _check(page)
    button(page, texts("app.ask")).click()
    finish(page, 3)
    assert sorted(page.locator(".count-name").all_inner_texts()) == ["bottle", "can"]
    page.locator(".turn:last-child").locator(".votes, .votes-agree").wait_for()
    body = sent_questions(watch)[-1]
    assert body["vlrun"] == {"task": "count", "items": ["bottle", "can"], "votes": 3, "language": language}
    assert heat.get_attribute("aria-checked") == "true"
    _check(page)


def _keep_history(page: Page, texts: Texts) -> None:
    """Found, opened after a reload, exported and deleted."""
    button(page, texts("app.newConversation")).click()
    page.wait_for_timeout(1000)  # a page that is closed within the same milliseconds may lose what is being saved
    page.reload()
    button(page, texts("app.history")).click()
    dialog = page.get_by_role("dialog")
    entry = dialog.locator(".history li")
    entry.wait_for()
    _check(page)
    search = dialog.get_by_role("searchbox")
    search.fill("nothing like it")
    dialog.get_by_text(texts("history.nothingFound")).wait_for()
    search.fill("more BOTTLES")
    with page.expect_download() as download:
        button(dialog, texts("history.exportAll")).click()
    (exported,) = json.loads(download.value.path().read_text(encoding="utf-8"))["conversations"]
    assert [turn["question"] for turn in exported["turns"][:1]] == ["Which picture has more bottles?"]
    assert exported["pictures"][0]["data"].startswith("data:image/png;base64,")
    entry.locator(".entry-open").click()
    page.locator(".turn").nth(2).wait_for()
    page.locator(PICTURE).wait_for()
    button(page, texts("app.history")).click()
    button(dialog, texts("history.deleteAll")).click()
    button(dialog, texts("history.deleteAll")).click()
    dialog.get_by_text(texts("history.empty")).wait_for()
    assert page.locator(".turn").count() == 0


def test_the_queue_and_the_progress_of_reading_are_shown(page: Page, site: str) -> None:
    page.add_init_script(SLOW)
    page.goto(site)
    add_picture(page)
    ask(page, "How many bottles are there?")
    page.locator(".progress", has_text="Waiting for the model").wait_for()
    page.evaluate("send(data(20))")
    page.locator(".progress", has_text="Looking at the picture").get_by_text("20 %").wait_for()
    page.wait_for_timeout(1000)  # at this rate, 3 s are left
    page.evaluate("send(data(40))")
    page.get_by_text(re.compile(r"40 % · about \d+ s left")).wait_for()
    assert page.get_by_role("progressbar").get_attribute("value") == "40"
    _check(page)
    button(page, "Stop").click()
    page.locator(".turn-note", has_text="Stopped.").wait_for()


def test_ten_turns_leave_the_memory_of_the_service_flat(opened: Page, server: Server, watch: Watch) -> None:
    def resident() -> int:
        return int(get(server, "/health/ready").json["memory"]["resident_bytes"])

    before = 0
    add_picture(opened)
    for turn in range(1, 11):
        ask(opened, ("How many bottles are there?", "What color is the bag?")[turn % 2])
        finish(opened, turn)
        before = resident() if turn == 4 else before
    assert len(uploads(watch)) == 1
    wait_until(lambda: is_idle(server))
    assert resident() - before < MAX_GROWTH
