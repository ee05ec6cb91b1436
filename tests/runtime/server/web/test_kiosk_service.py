"""The kiosk with a real service: its configuration file, a restart, and a picture that is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.http_client import get
from tests.runtime.server.running_server import READY, Server
from tests.runtime.server.web.browser import LOAD_SECONDS
from tests.runtime.server.web.kiosk_steps import STORED, ask, show_picture, wait_for_answer

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
def site(services: list[Server]) -> str:
    return services[0].url


def test_a_restart_is_waited_for_and_the_end_deletes_the_picture(
    page: Page, site: str, services: list[Server], options: list[str], watch: Watch
) -> None:
    for allowed in ("ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "status of (404|503)"):
        watch.allow(allowed)
    page.goto(f"{site}/kiosk")
    page.get_by_role("heading", name="Shelf watch").wait_for()
    assert page.locator(".brand img").evaluate("image => image.naturalWidth") == 40
    assert page.locator("html").get_attribute("data-theme") == "dark"
    show_picture(page)
    ask(page, 0)
    wait_for_answer(page, "6")
    page.get_by_role("button", name="Another question").click()

    services[0].process.kill()
    services[0].wait_for_exit()
    ask(page, 1)
    page.get_by_text("Your picture and your question are kept.").wait_for()
    services.append(Server([*options, "--port", str(services[0].port)]))
    services[1].url = services[1].wait_for(READY, LOAD_SECONDS)[1]
    wait_for_answer(page, "red")

    sent = [request for request in watch.requests if request.url.endswith("/v1/images")]
    response = sent[-1].response()
    assert response is not None
    path = f"/v1/images/{response.json()['id']}"
    assert get(services[1], path).status == 200
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.get_by_role("button", name="Start again").click()
    page.locator(".home").wait_for()
    assert get(services[1], path).status == 404
    assert page.evaluate(STORED) == [[], [], []]
