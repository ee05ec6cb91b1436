"""The page at ``/`` with the keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.page_steps import PICTURE, SHELF, finish, sent_images, sent_questions

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

MOST_TABS = 80
FOCUSED = """() => {
    const element = document.activeElement;
    const isMarked = ({outlineStyle, boxShadow}) => outlineStyle !== "none" || boxShadow !== "none";
    // The thumb of a range shows the focus, but scripts cannot see its style.
    const isUnmarked = element === document.body || element.type === "range";
    const shown = [element, element.closest("label, .composer, .names, .search")].filter(Boolean);
    const name = element.ariaLabel ?? element.labels?.[0]?.innerText ?? element.innerText ?? "";
    return {
        name: name.trim().split("\\n")[0],
        id: element.id,
        seen: isUnmarked || shown.some((each) => isMarked(getComputedStyle(each))),
    };
}"""
UNREACHED = """() => [...document.querySelectorAll("button, a[href], input, textarea, select, summary, [tabindex='0']")]
    .filter((each) => each.checkVisibility() && !each.disabled && each.tabIndex >= 0 && !each.dataset.reached)
    .filter((each) => each.type !== "radio" && !each.closest("[inert]"))
    .map((each) => each.outerHTML.slice(0, 120))"""

THINKS = """async () => {
    const {app} = await import("/web/app/store.js");
    app.set({server: {...app.value.server, thinks: true}});
}"""
"""What the next look at the state of the service finds."""
CHANGED = """async () => {
    const {DEFAULTS, loadSettings} = await import("/web/app/settings.js");
    return Object.keys(DEFAULTS).filter((name) => loadSettings()[name] === DEFAULTS[name]);
}"""
"""The settings that are as they were. A new one must be added to the test."""


def focused(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(FOCUSED)
    return found


def tab_to(page: Page, name: str, keys: str = "Tab") -> None:
    """Press Tab until an element with this name or id has the focus, which must be visible on the way."""
    passed = []
    for _ in range(MOST_TABS):
        page.keyboard.press(keys)
        at = focused(page)
        passed.append(at["name"] or at["id"])
        assert at["seen"], at
        if name in (at["name"], at["id"]):
            return
    raise AssertionError(f"{name} is not among {passed}")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_all_is_reached_and_a_question_is_asked(opened: Page, context: BrowserContext, watch: Watch) -> None:
    page = opened
    answer = '[{"bbox_2d": [100, 100, 300, 400], "label": "bottle"}, {"bbox_2d": [500, 500, 600, 800], "label": "can"}]'
    marks = [
        {"label": name, "box": box} for name, box in (("bottle", [64, 64, 192, 256]), ("can", [320, 320, 384, 512]))
    ]
    fakes.answer(context, answer, marks=marks)
    _choose_picture(page)
    _draw_focus(page)
    tab_to(page, "Enhance")
    press(page, "Space")
    page.get_by_role("slider").wait_for()
    tab_to(page, "Compare the original with the enhanced picture", "Shift+Tab")
    before = page.locator(".compared").evaluate("each => each.style.clipPath")
    press(page, *["ArrowRight"] * 10)
    assert page.locator(".compared").evaluate("each => each.style.clipPath") != before

    press(page, "/")  # to the question
    assert focused(page)["id"] == "question"
    page.keyboard.type("Where are bottles and cans?")
    press(page, "Enter")
    page.locator(".mark-item").nth(1).wait_for()
    (image,) = sent_images(sent_questions(watch)[-1])
    assert image["region"] == "260,250,500,510/1000"
    tab_to(page, "can", "Shift+Tab")
    press(page, "Enter")
    assert page.locator(".mark.active rect.mark-line").get_attribute("x") == "320"
    _reach_all(page)


def _choose_picture(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # Chromium must know in time that no dialog is to be opened
    tab_to(page, "Choose picture")
    with page.expect_file_chooser() as chooser:
        press(page, "Enter")
    chooser.value.set_files(SHELF)
    page.locator(PICTURE).wait_for()


def _draw_focus(page: Page) -> None:
    tab_to(page, "Focus")
    press(page, "Enter")
    page.locator(".region-box:focus").wait_for()
    press(page, "ArrowRight", "Shift+ArrowDown")


def _reach_all(page: Page) -> None:
    """Tab goes through everything that can be used, and comes back to where it began."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.reached"):
            break
        page.evaluate("document.activeElement.dataset.reached = 1")
    assert page.evaluate(UNREACHED) == []


def test_dialogs_and_menus_open_and_close_and_give_the_focus_back(opened: Page, context: BrowserContext) -> None:
    page = opened
    fakes.answer(context, "Six.")
    dialog = page.get_by_role("dialog")
    page.locator("#tasks").wait_for()
    press(page, "/")
    for shortcut, heading in (("Alt+h", "History"), ("Alt+s", "Settings")):
        press(page, shortcut)
        dialog.get_by_role("heading", name=heading, level=2).wait_for()
        assert dialog.evaluate("each => each.contains(document.activeElement)")
        press(page, *["Tab"] * 3)
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
        press(page, "Escape")
        dialog.wait_for(state="detached")
        assert focused(page)["id"] == "question"
    tab_to(page, "Help", "Shift+Tab")
    press(page, "Enter")
    dialog.get_by_text("Keyboard").wait_for()
    press(page, "Escape")
    dialog.wait_for(state="detached")
    assert focused(page)["name"] == "Help"

    tab_to(page, "tasks")
    press(page, "Enter")
    page.locator("#task-menu").wait_for()
    press(page, "Escape")
    page.locator("#task-menu").wait_for(state="detached")
    assert focused(page)["id"] == "tasks"
    press(page, "Enter", "Tab", "Tab", "Enter")
    page.locator("#task-names:focus").wait_for()
    page.keyboard.type("bottle, can")
    press(page, "Enter")
    assert page.locator(".name").count() == 2
    press(page, "Backspace")
    assert page.locator(".name").count() == 1


def test_settings_are_changed_and_an_answer_is_stopped(opened: Page, context: BrowserContext) -> None:
    page = opened
    context.route(fakes.COMPLETIONS, lambda route: None)  # never answers
    press(page, "Alt+s")
    tab_to(page, "temperature")
    page.keyboard.type("3")
    page.get_by_text("A number from 0 to 2").wait_for()
    press(page, "Backspace", "1")
    tab_to(page, "timings")
    press(page, "Space")
    assert page.locator("#timings").get_attribute("aria-checked") == "true"
    press(page, "Escape")
    press(page, "/")
    page.keyboard.type("How many?")
    press(page, "Shift+Enter")
    page.keyboard.type("And where?")
    press(page, "Enter")
    page.locator(".turn[aria-busy=true]").wait_for()
    press(page, "Escape")
    page.get_by_text("Stopped.").first.wait_for()
    assert page.locator(".question-text").inner_text() == "How many?\nAnd where?"
    tab_to(page, "Edit and ask again", "Shift+Tab")
    press(page, "Enter")
    assert page.locator("#question:focus").input_value() == "How many?\nAnd where?"
    _change_all_settings(page, context)


def _thinking(route: Route) -> None:
    """Answer as a service whose model can think."""
    response = route.fetch()
    route.fulfill(response=response, json=response.json() | {"thinks": True})


def _change_all_settings(page: Page, context: BrowserContext) -> None:
    """Each setting arrives in the request, or changes the page."""
    bodies = fakes.answer(context, "Six.")
    context.route("**/health/ready", _thinking)
    page.locator("input[type=file]").first.set_input_files(SHELF)
    page.locator(PICTURE).wait_for()
    page.evaluate(THINKS)
    press(page, "Escape")
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog")
    for name, text in {
        "temperature": "0.5",
        "top-p": "0.9",
        "max-tokens": "50",
        "seed": "7",
        "system": "Be short.",
    }.items():
        dialog.locator(f"#{name}").fill(text)
    for name, value in {"detail": "high", "votes": "3", "tiles": "2x2", "theme": "dark"}.items():
        dialog.locator(f"input[name={name}][value='{value}']").check(force=True)
    for name in ("thinking", "steps"):
        dialog.locator(f"#{name}").click()
    press(page, "Escape")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.locator("#tasks").click()
    page.locator("#task-menu .task", has_text="Count").first.click()
    page.locator("#task-names").fill("bottle")
    press(page, "Enter")
    page.locator("button.send").click()
    finish(page, 2)
    (body,) = bodies
    system, question = body["messages"]
    assert system == {"role": "system", "content": "Be short."}
    assert question["content"][0]["image_url"]["detail"] == "high"
    expected = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "seed": 7, "enable_thinking": False}
    assert {name: body[name] for name in expected} == expected
    task = {"task": "count", "items": ["bottle"], "language": "en"}
    assert body["vlrun"] == {**task, "votes": 3, "tiles": "2x2", "steps": True}
    page.wait_for_timeout(1000)  # a page that is closed within the same milliseconds may lose what is being saved
    page.reload()
    page.locator(".turn").nth(1).wait_for()
    assert page.evaluate(CHANGED) == []
