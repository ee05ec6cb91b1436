"""The history of the page at ``/`` while something else happens: answers that come, other tabs, the end of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.browser import Watch
from tests.runtime.server.web.page_steps import add_picture, ask, button, finish

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.slow

LIST = "async () => (await import('/web/store/conversations.js')).listConversations()"
RECORDS = """async () => {
    const opened = indexedDB.open("vlrun");
    await new Promise((done) => (opened.onsuccess = done));
    const records = opened.result.transaction("pictures").objectStore("pictures").getAllKeys();
    return new Promise((done) => (records.onsuccess = () => done(records.result.length)));
}"""
CHANGE = "async () => (await import('/web/app/store.js')).changeConversation({})"
"""As each word of an answer does."""
HOLD = """async () => {
    const opened = indexedDB.open("vlrun");
    await new Promise((done) => (opened.onsuccess = done));
    const store = opened.result.transaction("conversations", "readwrite").objectStore("conversations");
    let held = true;
    window.release = () => (held = false);
    const again = () => held && (store.count().onsuccess = again);
    again();
}"""
"""Other changes of the database wait until ``release`` is called."""
SAVED_MS = 600
"""Of a page that is not answering, until a change is saved."""


def questions(page: Page) -> list[list[str]]:
    """Those of each conversation in the history."""
    found: list[dict[str, Any]] = page.evaluate(LIST)
    return [[turn["question"] for turn in conversation["turns"]] for conversation in found]


def test_what_is_deleted_while_it_is_saved_stays_deleted(opened: Page, context: BrowserContext) -> None:
    """Guards a conversation that was saved once more while it was deleted, and came back."""
    page, dialog = opened, opened.get_by_role("dialog")
    fakes.answer(context, "Six.")
    for delete in (["Delete “How many?”"], ["Delete all", "Delete all"]):
        add_picture(page)
        ask(page, "How many?")
        finish(page, 1)
        button(page, "History").click()
        dialog.locator(".history li").wait_for()
        page.evaluate(HOLD)
        page.evaluate(CHANGE)
        for name in delete:
            button(dialog, name).click()
        page.wait_for_timeout(SAVED_MS)
        page.evaluate("release()")
        dialog.get_by_text("Your conversations will be listed here.").wait_for()
        page.keyboard.press("Escape")
        assert (page.locator(".turn").count(), questions(page), page.evaluate(RECORDS)) == (0, [], 0)
    page.reload()
    add_picture(page)
    page.wait_for_timeout(SAVED_MS)
    assert (page.locator(".turn").count(), questions(page), page.evaluate(RECORDS)) == (0, [[]], 1)
    button(page, "Remove shelf.png").click()
    page.wait_for_timeout(SAVED_MS)
    assert (questions(page), page.evaluate(RECORDS)) == ([], 0)


def test_two_tabs_keep_what_the_other_one_asked_and_deleted(
    opened: Page, context: BrowserContext, site: str, watch: Watch
) -> None:
    fakes.answer(context, "Six.")
    ask(opened, "First?")
    finish(opened, 1)
    opened.wait_for_timeout(SAVED_MS)
    other = context.new_page()
    other.goto(site)
    button(other, "History").click()
    other.locator(".entry-open").click()
    for page, question in ((other, "Second?"), (opened, "Third?")):
        ask(page, question)
        finish(page, 2)
        page.wait_for_timeout(SAVED_MS)
    assert [sorted(each) for each in questions(opened)] == [["First?", "Second?", "Third?"]]
    button(opened, "History").click()
    for _ in range(2):
        button(opened.get_by_role("dialog"), "Delete all").click()
    opened.get_by_text("Your conversations will be listed here.").wait_for()
    other.locator("#question").fill("typed")
    other.evaluate(CHANGE)
    other.get_by_text("deleted in another tab").wait_for()
    assert other.locator(".turn").count() == 0
    assert other.locator("#question").input_value() == "typed"
    other.close()
    assert questions(opened) == []
