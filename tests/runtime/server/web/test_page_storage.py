"""The page at ``/`` in browsers that store nothing: all works until the tab is closed, and the page says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.page_steps import add_picture, ask, button, finish

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.slow

FULL = "() => { throw new DOMException('full', 'QuotaExceededError'); }"
DENIED = "{get() { throw new DOMException('denied', 'SecurityError'); }}"
BROWSERS = {
    "that denies it": f"""
        const kinds = ["indexedDB", "localStorage", "sessionStorage"];
        for (const kind of kinds) Object.defineProperty(window, kind, {DENIED});
    """,
    "that is full": f"IDBObjectStore.prototype.put = {FULL}; Storage.prototype.setItem = {FULL}",
}


@pytest.mark.parametrize("browser_kind", BROWSERS)
def test_a_conversation_is_kept_until_the_tab_is_closed(
    page: Page, site: str, context: BrowserContext, browser_kind: str
) -> None:
    page.add_init_script(BROWSERS[browser_kind])
    page.goto(site)
    fakes.answer(context, "Six bottles.")
    add_picture(page)
    ask(page, "How many bottles?")
    finish(page, 1)
    page.get_by_text("This browser has no room for the history.").wait_for()
    button(page, "New conversation").click()
    ask(page, "What color is the bag?")
    finish(page, 1)
    button(page, "History").click()
    entries = page.locator(".history li")
    entries.nth(1).wait_for()
    with page.expect_download() as download:
        button(page, "Export all").click()
    exported = json.loads(download.value.path().read_text())["conversations"]
    assert sorted(len(conversation["pictures"]) for conversation in exported) == [0, 1]
    button(page, "Delete “What color is the bag?”").click()
    entries.nth(1).wait_for(state="detached")
    entries.filter(has_text="How many bottles?").locator(".entry-open").click()
    page.locator(".viewer-pane img.picture").wait_for()
    assert finish(page, 1) == "Six bottles."
