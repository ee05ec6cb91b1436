"""A kiosk that nobody uses forgets everything, and one whose service is away waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.kiosk_steps import STORED, ask, show_picture, wait_for_answer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

READY = "**/health/ready"


def test_an_idle_kiosk_counts_down_and_forgets_everything(timed: Page, calls: list[tuple[str, str]]) -> None:
    timed.get_by_role("button", name="中文").click()
    show_picture(timed)
    timed.get_by_role("textbox").fill("secret")
    warning = timed.get_by_role("dialog")
    timed.clock.run_for(49_000)
    assert warning.count() == 0
    timed.clock.run_for(2_000)
    warning.get_by_text("您还在吗").wait_for()
    assert not serious_issues(timed)
    timed.keyboard.press("Enter")  # which must not send the question that lies below
    warning.wait_for(state="detached")
    assert timed.get_by_role("textbox").input_value() == "secret"
    timed.clock.run_for(51_000)
    warning.wait_for()
    with timed.expect_request(lambda request: request.method == "DELETE"):
        timed.clock.run_for(10_000)
    timed.get_by_role("heading", name="Ask the shelf").wait_for()  # in English again
    assert warning.count() == 0
    assert timed.evaluate(STORED) == [[], [], []]
    show_picture(timed)
    assert timed.get_by_role("textbox").input_value() == ""
    assert [call[0] for call in calls] == ["POST", "DELETE", "POST"]


def test_an_answer_that_comes_is_no_idle_time_but_an_open_camera_is(timed: Page, context: BrowserContext) -> None:
    held: list[Route] = []
    context.route(fakes.COMPLETIONS, lambda route: held.append(route))  # noqa: PLW0108 - Playwright needs it
    show_picture(timed)
    with timed.expect_request(fakes.COMPLETIONS):
        ask(timed)
    timed.clock.run_for(120_000)
    assert timed.get_by_role("dialog").count() == 0
    held[0].fulfill(body=fakes.events(fakes.words("Six.")), content_type="text/event-stream")
    wait_for_answer(timed, "Six.")
    timed.clock.run_for(61_000)
    timed.locator(".home").wait_for()
    timed.get_by_role("button", name="Take a photo").click()
    timed.locator(".shutter:enabled").wait_for()
    video = timed.evaluate_handle("document.querySelector('video').srcObject")
    timed.clock.run_for(61_000)
    timed.locator(".home").wait_for()
    assert video.evaluate("stream => stream.getTracks().map(track => track.readyState)") == ["ended"]


def test_a_kiosk_at_rest_shows_that_the_service_is_away_and_comes_back(
    timed: Page, context: BrowserContext, watch: Watch
) -> None:
    watch.allow("ERR_CONNECTION_REFUSED")
    context.route(READY, lambda route: route.abort("connectionrefused"))
    timed.clock.run_for(11_000)
    timed.get_by_text("One moment, please").wait_for()
    assert not serious_issues(timed)
    context.unroute(READY)
    timed.clock.run_for(6_000)
    timed.locator(".home").wait_for()


def test_an_answer_that_breaks_off_is_asked_for_again_and_a_full_queue_waited_for(
    kiosk: Page, context: BrowserContext, watch: Watch, calls: list[tuple[str, str]]
) -> None:
    """The service restarts: it is away, loads its model, and has lost the picture."""
    watch.allow("status of (404|429|503)")
    states = iter(["loading", "loading", "ready"])

    def ready(route: Route) -> None:
        state = next(states)
        route.fulfill(status=200 if state == "ready" else 503, json={"ready": state == "ready", "status": state})

    def first(route: Route) -> None:
        context.unroute(fakes.COMPLETIONS)
        context.route(fakes.COMPLETIONS, second)
        context.route(READY, ready)
        route.fulfill(body=fakes.events(fakes.words("Half")[:1], ended=False), content_type="text/event-stream")

    def second(route: Route) -> None:
        fakes.answer(context, "Whole answer.")
        error = {"message": "gone", "type": "not_found_error", "param": None, "code": "image_not_found"}
        route.fulfill(status=404, json={"error": error})

    context.route(fakes.COMPLETIONS, first)
    show_picture(kiosk)
    ask(kiosk)
    kiosk.get_by_text("Your picture and your question are kept.").wait_for()
    assert not serious_issues(kiosk)
    wait_for_answer(kiosk, "Whole answer.")
    assert kiosk.get_by_text("Half").count() == 0
    assert [call[0] for call in calls] == ["POST", "POST"]
    kiosk.get_by_role("button", name="Another question").click()
    fakes.refuse(context, 429, "busy", retry_after=1)
    ask(kiosk)
    kiosk.get_by_text("Many questions just now").wait_for()
    fakes.answer(context, "Six.")
    wait_for_answer(kiosk, "Six.")


def test_a_question_that_always_breaks_the_answer_is_given_up(
    timed: Page, context: BrowserContext, watch: Watch
) -> None:
    asked = []

    def broken(route: Route) -> None:
        asked.append(route)
        route.fulfill(body="", content_type="text/event-stream")

    context.route(fakes.COMPLETIONS, broken)
    show_picture(timed)
    ask(timed)
    timed.get_by_role("alert").get_by_text("did not work").wait_for()
    assert len(asked) == 6


def test_the_kiosk_waits_for_a_service_that_starts(
    page: Page, site: str, context: BrowserContext, watch: Watch
) -> None:
    watch.allow("status of 503")
    fakes.refuse(context, 503, "not_ready", path=f"**{fakes.CONFIG}")
    page.goto(f"{site}/kiosk")
    page.get_by_text("One moment, please").wait_for()
    context.unroute(f"**{fakes.CONFIG}")
    page.locator(".home").wait_for()


def test_the_kiosk_is_loaded_again_if_a_script_did_not_come(
    page: Page, site: str, context: BrowserContext, watch: Watch, clock: None
) -> None:
    """The service went away between the page and its scripts."""
    watch.allow("ERR_CONNECTION_REFUSED")
    context.route("**/web/kiosk/app.js", lambda route: route.abort("connectionrefused"), times=1)
    with page.expect_event("requestfailed"):
        page.goto(f"{site}/kiosk")
    page.clock.run_for(21_000)
    page.locator(".home").wait_for()
