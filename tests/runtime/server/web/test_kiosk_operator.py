"""The operator of a kiosk enters the API key once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.running_server import KEY
from tests.runtime.server.web.accessibility import serious_issues

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.runtime.server.running_server import Server
    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow


@pytest.fixture
def site(strict_server: Server) -> str:
    return strict_server.url


def test_the_key_is_entered_once_and_kept(page: Page, site: str, watch: Watch) -> None:
    watch.allow("status of 401")
    page.goto(f"{site}/kiosk")
    field = page.get_by_label("API key")
    field.wait_for()
    assert not serious_issues(page)
    assert page.get_by_role("button", name="Cancel").count() == 0
    field.fill("wrong")
    field.press("Enter")
    page.get_by_role("alert").get_by_text("does not accept").wait_for()
    field.fill(KEY)
    field.press("Enter")
    page.locator(".home").wait_for()
    assert KEY not in page.content()
    page.evaluate("sessionStorage.clear()")  # another day
    page.reload()
    page.locator(".home").wait_for()
    stored = page.evaluate("Object.values(localStorage)")
    assert stored == [KEY]

    page.goto(f"{site}/kiosk?setup")
    assert page.get_by_label("API key").input_value() == ""  # nobody reads it
    page.get_by_role("button", name="Forget the key").click()
    page.get_by_role("alert").get_by_text("saved").wait_for()
    assert page.evaluate("Object.values(localStorage)") == []


def test_a_long_press_on_the_corner_opens_the_settings(page: Page, site: str, watch: Watch, clock: None) -> None:
    watch.allow("status of 401")
    page.add_init_script(f"localStorage.setItem('vlrun.kiosk.api-key', {KEY!r})")
    page.goto(f"{site}/kiosk")
    page.locator(".home").wait_for()
    corner = page.locator(".brand")
    box = corner.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.clock.run_for(2_000)
    page.mouse.up()
    page.clock.run_for(2_000)
    assert page.get_by_label("API key").count() == 0
    page.mouse.down()
    page.clock.run_for(3_100)
    page.mouse.up()
    page.get_by_label("API key").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".home").wait_for()
