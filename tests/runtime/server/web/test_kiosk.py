"""The kiosk in a browser: from picture to answer, and everything forgotten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.kiosk_steps import SHELF, STORED, ask, show_picture, wait_for_answer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

SCREENS = [(1080, 1920, "中文"), (1920, 1080, "English"), (800, 480, "English"), (800, 480, "中文")]
COVERING = [("phone", "zh", "light"), ("tablet", "en", "dark"), ("desktop", "en", "light")]


@pytest.mark.parametrize(("size", "language", "scheme"), COVERING)
def test_a_picture_is_asked_about_several_times_and_then_forgotten(
    kiosk: Page, context: BrowserContext, calls: list[tuple[str, str]], language: str
) -> None:
    bodies = fakes.answer(context, "Six bottles.")
    assert not serious_issues(kiosk)
    show_picture(kiosk)
    assert not serious_issues(kiosk)
    labels = kiosk.locator(".question").all_inner_texts()
    assert labels == [fakes.QUESTIONS[0]["label"][language], fakes.QUESTIONS[1]["label"][language], "Count"]
    ask(kiosk)
    wait_for_answer(kiosk, "Six bottles.")
    assert not serious_issues(kiosk)
    kiosk.locator(".actions .primary").click()
    ask(kiosk, 1)
    wait_for_answer(kiosk, "Six bottles.")
    kiosk.locator(".actions .primary").click()
    ask(kiosk, 2)
    wait_for_answer(kiosk, "Six bottles.")
    assert [call for call in calls if call[0] == "POST"] == [("POST", "images")]  # sent once
    texts = [part["text"] for body in bodies for part in body["messages"][0]["content"] if part["type"] == "text"]
    assert texts == [labels[0], "How many bottles are there?"]
    assert [body.get("vlrun") for body in bodies] == [
        None,
        None,
        {"task": "count", "items": ["bottle"], "language": language},
    ]
    with kiosk.expect_request(lambda request: request.method == "DELETE"):
        kiosk.locator(".actions button").first.click()
    kiosk.locator(".home").wait_for()
    assert kiosk.locator(".picture").count() == 0
    assert kiosk.evaluate(STORED) == [[], [], []]


def test_the_camera_takes_the_photo_and_is_closed(kiosk: Page, calls: list[tuple[str, str]]) -> None:
    kiosk.get_by_role("button", name="Take a photo").click()
    shutter = kiosk.get_by_role("button", name="Take the photo")
    kiosk.locator(".shutter:enabled").wait_for()
    assert not serious_issues(kiosk)
    video = kiosk.evaluate_handle("document.querySelector('video').srcObject")
    shutter.click()
    kiosk.locator(".question").first.wait_for()
    assert calls == [("POST", "images")]
    assert video.evaluate("stream => stream.getTracks().map(track => track.readyState)") == ["ended"]
    box = kiosk.locator(".picture img").evaluate("image => image.naturalWidth")
    assert box > 0


def test_without_a_camera_a_file_is_chosen(kiosk: Page) -> None:
    refuse = (
        "() => (navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') })"
    )
    kiosk.evaluate(refuse)
    kiosk.get_by_role("button", name="Take a photo").click()
    kiosk.get_by_role("alert").get_by_text("Choose a picture instead").wait_for()
    unplug = """() => {
        navigator.mediaDevices.enumerateDevices = async () => [];
        // More than once: an older list of devices may still be on its way.
        setInterval(() => navigator.mediaDevices.dispatchEvent(new Event("devicechange")), 100);
    }"""
    kiosk.evaluate(unplug)
    kiosk.locator("label.huge.primary").wait_for()
    assert kiosk.get_by_role("button", name="Take a photo").count() == 0
    show_picture(kiosk)


def test_an_answer_is_stopped_and_a_typed_question_asked(kiosk: Page, context: BrowserContext, site: str) -> None:
    context.route(fakes.COMPLETIONS, lambda route: None)  # never answers
    show_picture(kiosk)
    ask(kiosk)
    with kiosk.expect_event("requestfailed"):
        kiosk.get_by_role("button", name="Stop").click()
    kiosk.get_by_text("Stopped.").wait_for()
    kiosk.get_by_role("button", name="Another question").click()
    assert kiosk.locator(".question").count() == 3
    bodies = fakes.answer(context, "Red.")
    field = kiosk.get_by_role("textbox", name="Type your own question")
    field.fill("  Which color?  ")
    field.press("Enter")
    wait_for_answer(kiosk, "Red.")
    assert bodies[0]["messages"][0]["content"][1] == {"type": "text", "text": "Which color?"}
    fakes.kiosk(kiosk, free_text=False)
    kiosk.goto(f"{site}/kiosk")
    show_picture(kiosk)
    assert kiosk.get_by_role("textbox").count() == 0


def test_the_keyboard_is_enough_and_other_gestures_do_nothing(kiosk: Page, context: BrowserContext) -> None:
    _check_that_nobody_can_zoom_select_or_open_a_menu(kiosk)
    fakes.answer(context, "Six.")
    show_picture(kiosk)
    kiosk.keyboard.press("Tab")
    assert kiosk.locator(".question:focus").inner_text() == "What is this?"
    kiosk.keyboard.press("Enter")
    wait_for_answer(kiosk, "Six.")
    names = []
    for _ in range(3):
        kiosk.keyboard.press("Tab")
        names.append(kiosk.locator(":focus").evaluate("element => element.innerText.trim() || element.ariaLabel"))
    assert names == ["Six.", "Start again", "Another question"]
    kiosk.keyboard.press("Enter")
    kiosk.locator(".question").first.wait_for()


def _check_that_nobody_can_zoom_select_or_open_a_menu(kiosk: Page) -> None:
    prevented = "event => !document.body.dispatchEvent(event)"
    for event in (
        "new MouseEvent('contextmenu', {bubbles: true, cancelable: true})",
        "new WheelEvent('wheel', {bubbles: true, cancelable: true, ctrlKey: true})",
        "new DragEvent('drop', {bubbles: true, cancelable: true})",
    ):
        assert kiosk.evaluate_handle(event).evaluate(prevented), event
    style = kiosk.evaluate(
        "(({userSelect, touchAction}) => [userSelect, touchAction])(getComputedStyle(document.body))"
    )
    assert style == ["none", "pan-x pan-y"]
    assert not re.search("user-scalable|maximum-scale", kiosk.content())  # which axe-core forbids


def test_nothing_is_cut_off_on_the_screens_of_kiosks(kiosk: Page, context: BrowserContext) -> None:
    fakes.answer(context, "The shelf has six bottles. " * 30)
    for width, height, language in SCREENS:
        kiosk.set_viewport_size({"width": width, "height": height})
        kiosk.get_by_role("button", name=language).click()
        for step in (lambda: None, lambda: show_picture(kiosk), lambda: ask(kiosk)):
            step()
            _check_that_nothing_is_cut_off(kiosk, width, height)
        kiosk.locator(".actions button").first.click()
        kiosk.locator(".home").wait_for()


def _check_that_nothing_is_cut_off(kiosk: Page, width: int, height: int) -> None:
    overflow = "() => [document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]"
    assert kiosk.evaluate(overflow) == [width, height]
    for button in kiosk.locator("nav button, button.huge, .languages button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
        assert button.evaluate("button => button.scrollWidth <= button.clientWidth + 1"), button.inner_text()


def test_a_bad_picture_is_explained_and_another_one_taken(kiosk: Page, context: BrowserContext, watch: Watch) -> None:
    refusals = {400: "cannot be read", 413: "too large", 415: "cannot be read"}
    for status, text in refusals.items():
        watch.allow(f"status of {status}")
        fakes.refuse(context, status, "refused", path="**/v1/images")
        kiosk.set_input_files("input[type=file]", SHELF)
        kiosk.locator(".home").get_by_role("alert").get_by_text(text).wait_for()
        context.unroute("**/v1/images")
        show_picture(kiosk)
        kiosk.locator(".actions button").first.click()
        kiosk.locator(".home").wait_for()


def test_a_question_that_fails_is_explained_and_can_be_asked_again(
    kiosk: Page, context: BrowserContext, watch: Watch
) -> None:
    show_picture(kiosk)
    for status, text in {400: "another one", 500: "try again", 504: "too long"}.items():
        watch.allow(f"status of {status}")
        fakes.refuse(context, status, "refused")
        ask(kiosk)
        kiosk.get_by_role("alert").get_by_text(text).wait_for()
        assert status != 500 or not serious_issues(kiosk)
        fakes.answer(context, "Six.")
        kiosk.get_by_role("button", name="Try again").click()
        wait_for_answer(kiosk, "Six.")
        kiosk.get_by_role("button", name="Another question").click()


def test_script_in_answers_and_labels_is_text(page: Page, site: str, context: BrowserContext) -> None:
    attack = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    fakes.kiosk(page, title=attack, questions=[{"label": attack}])
    page.goto(f"{site}/kiosk")
    fakes.answer(context, attack)
    show_picture(page)
    ask(page)
    page.locator(".reply .answer").wait_for()
    assert page.title() == attack
    assert page.locator("main script, main .reply img").count() == 0
