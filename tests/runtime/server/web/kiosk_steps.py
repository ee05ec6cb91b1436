"""What a person does at the kiosk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.paths import EXAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Page

SHELF = EXAMPLES / "shelf.png"
STORED = "async () => [Object.keys(localStorage), Object.keys(sessionStorage), await indexedDB.databases()]"


def show_picture(page: Page) -> None:
    page.set_input_files("input[type=file]", SHELF)
    page.locator(".question").first.wait_for()


def ask(page: Page, number: int = 0) -> None:
    page.locator(".question").nth(number).click()


def wait_for_answer(page: Page, text: str) -> None:
    page.locator(".reply").get_by_text(text).wait_for()
