"""A service that is killed and started again under both pages: the kiosk with a configuration, and the one at ``/``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.http_client import get
from tests.runtime.server.running_server import READY, Server
from tests.runtime.server.web import kiosk_steps
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.browser import LOAD_SECONDS
from tests.runtime.server.web.fakes import COMPLETIONS
from tests.runtime.server.web.page_steps import add_picture, ask, button, finish, uploads

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

CONFIG = """
title = {en = "Shelf watch", zh = "货架"}
logo = "logo.svg"
language = "en"
theme = "dark"

[[questions]]
label = "Bottles?"
question = "How many bottles are there?"

[[questions]]
label = "Bag?"
question = "What color is the bag?"
"""
LOGO = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'><rect width='40' height='20'/></svg>"
RANGES = [{"type": "integer", "minimum": start, "maximum": start + 9999} for start in range(10**6, 6 * 10**6, 10**4)]
NUMBERS = {"type": "array", "prefixItems": RANGES, "minItems": len(RANGES), "items": False}
LONG = {"type": "object", "properties": {"numbers": NUMBERS}, "required": ["numbers"]}
"""Of an answer that takes longer than the page needs to show its beginning, if it may have as many tokens. All numbers
differ, because repetitions would end it."""
MANY_TOKENS = 3500


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("kiosk")
    (folder / "kiosk.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "logo.svg").write_text(LOGO, encoding="utf-8")
    return ["--kiosk-config", str(folder / "kiosk.toml")]


@pytest.fixture
def services(options: list[str]) -> Iterator[list[Server]]:
    """The service, and those that a test starts in its place."""
    running = [Server(options)]
    try:
        running[0].url = running[0].wait_for(READY, LOAD_SECONDS)[1]
        yield running
    finally:
        for service in running:
            service.process.kill()
            service.wait_for_exit()


@pytest.fixture
def service_workers() -> str:
    return "allow"


@pytest.fixture
def site(services: list[Server]) -> str:
    return services[0].url


def test_a_restart_is_waited_for_and_nothing_is_lost(
    page: Page, context: BrowserContext, site: str, services: list[Server], options: list[str], watch: Watch
) -> None:
    for allowed in ("ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE", "status of (404|503)"):
        watch.allow(allowed)
    _use_kiosk(page, site)
    other = context.new_page()
    _ask_for_much(other, site)

    services[0].process.kill()
    services[0].wait_for_exit()
    other.bring_to_front()  # a page in the background is not drawn
    other.get_by_role("alert").get_by_text("The connection broke off").wait_for()
    page.bring_to_front()
    kiosk_steps.ask(page, 1)
    page.get_by_text("Your picture and your question are kept.").wait_for()
    late = context.new_page()
    late.goto(f"{site}/kiosk")
    late.get_by_text("请稍候").wait_for()
    assert not serious_issues(late)
    services.append(Server([*options, "--port", str(services[0].port)]))
    services[1].url = services[1].wait_for(READY, LOAD_SECONDS)[1]

    late.get_by_role("heading", name="Shelf watch").wait_for()
    kiosk_steps.wait_for_answer(page, "red")
    _leave_kiosk(page, services[1], watch)
    _go_on(other, watch)


def _use_kiosk(page: Page, site: str) -> None:
    page.goto(f"{site}/kiosk")
    page.get_by_role("heading", name="Shelf watch").wait_for()
    assert page.locator(".brand img").evaluate("image => image.naturalWidth") == 40
    assert page.locator("html").get_attribute("data-theme") == "dark"
    kiosk_steps.show_picture(page)
    kiosk_steps.ask(page, 0)
    kiosk_steps.wait_for_answer(page, "6")
    button(page, "Another question").click()
    page.evaluate("async () => void await navigator.serviceWorker.ready")


def _leave_kiosk(page: Page, service: Server, watch: Watch) -> None:
    """The end deletes the picture, here and at the service."""
    response = uploads(watch)[-1].response()
    assert response is not None
    path = f"/v1/images/{response.json()['id']}"
    assert get(service, path).status == 200
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        button(page, "Start again").click()
    page.locator(".home").wait_for()
    assert get(service, path).status == 404
    assert page.evaluate(kiosk_steps.STORED.replace("await indexedDB.databases()", "[]")) == [[], [], []]


def _ask_for_much(page: Page, site: str) -> None:
    """Until the answer is on its way."""

    def lengthen(route: Route) -> None:
        route.continue_(post_data={**(route.request.post_data_json or {}), "max_tokens": MANY_TOKENS})

    page.route(COMPLETIONS, lengthen)
    page.goto(site)
    add_picture(page)
    button(page, "JSON answer").click()
    page.get_by_text("Own JSON Schema").click()
    page.get_by_label("JSON Schema", exact=True).fill(json.dumps(LONG))
    ask(page, "How many bottles are there?")
    page.locator(".turn[aria-busy=true] .answer", has_text="numbers").wait_for()
    page.locator("#question").fill("typed meanwhile")


def _go_on(page: Page, watch: Watch) -> None:
    """The answer is asked for again, its picture sent once more, and then stopped."""
    page.bring_to_front()
    page.locator(".turn .answer", has_text="numbers").wait_for()
    before = len(uploads(watch))
    button(page, "Ask again").click()
    page.locator(".turn[aria-busy=true] .answer", has_text="numbers").wait_for()
    button(page, "Stop").click()
    page.locator(".turn-note", has_text="Stopped. What was written so far is kept.").wait_for()
    assert "numbers" in finish(page, 1)
    assert len(uploads(watch)) == before + 1
    assert page.locator(".turn").count() == 1
    assert page.locator("#question").input_value() == "typed meanwhile"
