"""The picture viewer in Chromium: zoom, focus box, boxes of the answer, heat map, before and after."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.server.web.components import Components
from vlrun.heatmap.overlay import INFERNO, OPACITY

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.web.browser import Contexts

pytestmark = pytest.mark.slow

TWO = [{"label": "bottle", "box": [64, 64, 192, 256]}, {"label": "can", "box": [320, 320, 384, 512]}]


@pytest.fixture
def site(component_origin: str) -> str:
    return component_origin


@pytest.fixture
def tab(contexts: Contexts, context: BrowserContext) -> Page:
    return contexts.kept_page(context)


@pytest.fixture
def components(page: Page, site: str, language: str) -> Components:
    return Components(page, site, language)


def frame(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).bounding_box()
    assert found
    return {"x": found["x"], "y": found["y"], "width": found["width"], "height": found["height"]}


def picture_point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture, in shares of its sides, lies on the screen."""
    picture = frame(page, "img.picture >> nth=0")
    return picture["x"] + x * picture["width"], picture["y"] + y * picture["height"]


def test_keys_buttons_and_wheel_zoom_and_the_page_still_scrolls(components: Components, page: Page) -> None:
    components.viewer()
    page.evaluate("document.body.style.minHeight = '3000px'")
    pane, fitted = frame(page, ".viewer-pane"), frame(page, "img.picture")
    assert fitted["width"] <= pane["width"]
    assert fitted["height"] <= pane["height"]
    page.mouse.move(*picture_point(page, 0.5, 0.5))
    page.mouse.wheel(0, 100)
    components.until("scrollY > 0")
    assert frame(page, "img.picture")["width"] == fitted["width"]
    page.evaluate("scrollTo(0, 0)")

    page.locator(".viewer-pane").focus()
    page.keyboard.press("+")
    zoomed = frame(page, "img.picture")
    assert zoomed["width"] > fitted["width"] * 1.3
    page.keyboard.press("ArrowDown")
    assert frame(page, "img.picture")["y"] < zoomed["y"]
    page.keyboard.press("0")
    assert frame(page, "img.picture") == pytest.approx(fitted)
    page.get_by_role("button", name="Zoom in").click()
    assert frame(page, "img.picture")["width"] == pytest.approx(zoomed["width"])
    page.keyboard.press("0")
    page.get_by_role("button", name="Whole picture").click()
    assert frame(page, "img.picture") == pytest.approx(fitted)

    page.locator(".viewer-pane").focus()
    page.mouse.move(*picture_point(page, 0.5, 0.5))
    page.mouse.wheel(0, -1000)
    components.until(f"document.querySelector('img.picture').clientWidth > 3 * {fitted['width']}")
    wide = frame(page, "img.picture")["width"]
    corner = picture_point(page, 0.45, 0.45)
    page.mouse.move(*corner)
    page.mouse.wheel(0, -200)
    components.until(f"document.querySelector('img.picture').clientWidth > 1.2 * {wide}")
    assert picture_point(page, 0.45, 0.45) == pytest.approx(corner, abs=2), "the point under the pointer stays"
    before = frame(page, "img.picture")
    page.mouse.down()
    page.mouse.move(corner[0] + 40, corner[1] + 30, steps=3)
    page.mouse.up()
    after = frame(page, "img.picture")
    assert (after["x"], after["y"]) == pytest.approx((before["x"] + 40, before["y"] + 30), abs=1)


def test_a_focus_box_is_drawn_moved_resized_and_cleared_by_mouse(components: Components, page: Page) -> None:
    components.viewer(focus=True)
    page.get_by_role("button", name="Focus", exact=True).click()
    page.mouse.move(*picture_point(page, 0.75, 0.5))
    page.mouse.down()
    page.mouse.move(*picture_point(page, 0.25, 0.25), steps=4)
    page.mouse.up()
    assert components.events("region") == [{"x": 250, "y": 250, "width": 500, "height": 250}]
    assert "25 percent from the left" in page.get_by_role("status").inner_text()
    page.mouse.move(*picture_point(page, 0.5, 0.4))
    page.mouse.down()
    page.mouse.move(*picture_point(page, 0.9, 0.5), steps=4)
    page.mouse.up()
    assert components.state()["viewer"]["region"] == {"x": 500, "y": 350, "width": 500, "height": 250}
    page.mouse.move(*picture_point(page, 1.0, 0.6))
    page.mouse.down()
    page.mouse.move(*picture_point(page, 0.8, 0.9), steps=4)
    page.mouse.up()
    assert components.state()["viewer"]["region"] == {"x": 500, "y": 350, "width": 300, "height": 550}
    page.get_by_role("button", name="Clear focus").click()
    assert components.state()["viewer"]["region"] is None


def test_a_focus_box_is_drawn_moved_resized_and_cleared_by_keyboard(components: Components, page: Page) -> None:
    components.viewer(focus=True)
    page.get_by_role("button", name="Focus", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".region-box:focus")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Shift+ArrowDown")
    region = {"x": 260, "y": 249, "width": 500, "height": 510}
    assert components.state()["viewer"]["region"] == region
    label = page.get_by_role("application").get_attribute("aria-label") or ""
    assert "26 percent from the left, 25 percent from the top" in label
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    assert components.state()["viewer"]["region"] == {**region, "x": 500}, "it stays in the picture"
    page.keyboard.press("Escape")
    assert components.state()["viewer"]["region"] is None
    assert page.evaluate("document.activeElement.className").startswith("viewer-pane"), "the focus is not lost"


@pytest.mark.parametrize("size", ["phone"])
def test_fingers_draw_a_box_choose_boxes_and_pinch(components: Components, page: Page) -> None:
    components.viewer(focus=True, marks=TWO)
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    page.touchscreen.tap(*picture_point(page, 0.2, 0.2))
    components.until("state.activeMark === 0")
    page.get_by_role("button", name="Focus", exact=True).tap()
    fingers("touchStart", picture_point(page, 0.2, 0.2))
    for share in (0.3, 0.4, 0.5):
        fingers("touchMove", picture_point(page, share, share))
    fingers("touchEnd")
    components.until("state.viewer.region")
    region = components.state()["viewer"]["region"]
    assert region == pytest.approx({"x": 200, "y": 200, "width": 300, "height": 300}, abs=4)
    width = frame(page, "img.picture")["width"]
    fingers("touchStart", picture_point(page, 0.6, 0.8), picture_point(page, 0.7, 0.8))
    fingers("touchMove", picture_point(page, 0.5, 0.8), picture_point(page, 0.8, 0.8))
    fingers("touchMove", picture_point(page, 0.4, 0.8), picture_point(page, 0.9, 0.8))
    fingers("touchEnd")
    components.until(f"document.querySelector('img.picture').clientWidth > 1.5 * {width}")
    assert components.state()["viewer"]["region"] == region, "two fingers draw nothing"


def test_boxes_and_their_words_light_each_other(components: Components, page: Page) -> None:
    text = "😀 There is a bottle, and **a can** below."
    components.viewer(marks=TWO)
    bottle, can = text.index("bottle"), text.index("a can")  # in Python as in the API: characters
    components.answer(text=text, marks=TWO, spans=[[bottle, bottle + 6], [can, can + 5]])
    assert page.locator(".mark-words").all_inner_texts() == ["bottle", "a can"]

    page.mouse.move(*picture_point(page, 0.2, 0.2))
    page.wait_for_selector(".mark-words.active:text-is('bottle')")
    page.mouse.move(5, 5)
    page.wait_for_selector(".mark-words.active", state="detached")
    page.mouse.click(*picture_point(page, 0.2, 0.2))
    page.mouse.move(5, 5)
    page.locator(".mark-words", has_text="can").hover()
    assert page.locator(".mark.active rect.mark-line").get_attribute("x") == "320"
    page.mouse.move(5, 5)
    assert page.locator(".mark.active rect.mark-line").get_attribute("x") == "64", "the chosen one stays lit"

    page.get_by_role("button", name="Next box").click()
    assert components.state()["activeMark"] == 1
    assert page.get_by_role("status").inner_text().startswith("can, 2 of 2, 50 percent")
    page.locator(".mark-words").first.focus()
    assert components.state()["activeMark"] == 0


def test_hostile_and_many_boxes(components: Components, page: Page) -> None:
    nan = math.nan
    hostile: list[dict[str, Any]] = [
        {"label": "nan", "box": [nan, 0, 1, 1]},
        {"label": "infinite", "point": [math.inf, 1]},
        {"label": "outside", "box": [700, 700, 800, 800]},
        {"label": "<img src=x onerror=alert(1)>", "box": [-50, -50, 900, 900]},
        {"label": "swapped", "box": [200, 300, 100, 150]},
        {"label": "few", "box": [1, 2]},
        {"label": "w" * 500, "box": [600, 0, 640, 20]},
        {"label": "point", "point": [639, 639]},
        {"label": None, "box": None},
    ]
    components.viewer(marks=hostile)
    assert page.locator(".mark").count() == 4
    assert page.locator(".mark-labels text", has_text="onerror").count() == 1
    pane = frame(page, ".viewer-pane")
    for label in page.locator(".mark-labels rect").all():
        place = label.bounding_box()
        assert place
        assert place["x"] >= pane["x"] - 1
        assert place["y"] >= pane["y"] - 1
        assert place["x"] + place["width"] <= pane["x"] + pane["width"] + 1
        assert place["y"] + place["height"] <= pane["y"] + pane["height"] + 1
    texts = page.locator(".mark-labels g").evaluate_all(
        "all => all.map(one => ['text', 'rect'].map(part => one.querySelector(part).getBBox().width))"
    )
    assert all(text <= rect for text, rect in texts), "no label is wider than its field"

    grid = [
        {"label": f"l{i % 3}", "box": [i % 40 * 16, i // 40 * 12, i % 40 * 16 + 14, i // 40 * 12 + 10]}
        for i in range(2000)
    ]
    components.viewer(marks=grid)
    page.wait_for_selector(".viewer-note:text('500 of 2,000')")
    assert page.locator(".mark").count() == 500
    page.get_by_role("button", name="Previous box").click()
    assert components.state()["activeMark"] == 1999
    assert page.locator(".mark").count() == 501, "the chosen one is drawn"
    assert page.locator(".mark-labels text").all_text_contents() == ["l1"], "labels would hide the picture"


STEP = 97
"""Every so many pixels of a heat map are compared."""


def heat_map(tokens: int = 3, rows: int = 5, columns: int = 7) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    values = np.random.default_rng(4).integers(0, 256, (tokens, rows, columns), np.uint8)
    image = {"rows": rows, "columns": columns, "max": 0.3, "values": base64.b64encode(values.tobytes()).decode()}
    return values, {"images": [image], "tokens": [f" t{token}" for token in range(tokens)]}


@pytest.mark.parametrize("chosen", [None, [1, 2]])
def test_a_heat_map_has_the_colours_of_the_command_line(
    components: Components, page: Page, chosen: list[int] | None
) -> None:
    values, encoded = heat_map()
    components.viewer(heatmap=encoded)
    page.evaluate("tokens => show({tokens})", chosen)
    width, height, data = page.locator("canvas.heat").evaluate(
        """(canvas, step) => {
          const {width, height} = canvas;
          const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
          const count = 4 * Math.ceil(width * height / step);
          const sample = (_, at) => data[at % 4 + 4 * step * (at >> 2)];
          return [width, height, Array.from({length: count}, sample)];
        }""",
        STEP,
    )
    drawn = np.array(data).reshape(-1, 4)
    mean = values[slice(*chosen) if chosen else slice(None)].mean(0)
    cells = Image.fromarray((mean / mean.max()).astype(np.float32))
    smooth = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
    share = np.clip(smooth.ravel()[::STEP], 0, 1)
    assert np.abs(drawn[..., 3] - 255 * OPACITY * np.minimum(2 * share, 1)).max() <= 3
    positions, anchors = share * (len(INFERNO) - 1), np.arange(len(INFERNO))
    colours = np.stack([np.interp(positions, anchors, INFERNO[:, channel]) for channel in range(3)], 1)
    visible = drawn[..., 3] > 60  # canvases store colours premultiplied: with little opacity they are rounded
    assert np.abs(drawn[..., :3] - colours)[visible].max() <= 6


@pytest.mark.parametrize("degrees", [0, 5])
def test_a_heat_map_lies_where_the_model_saw_it(components: Components, page: Page, degrees: float) -> None:
    """In a region of the picture, which may have been straightened."""
    _, encoded = heat_map()
    centre, side = np.array([256.0, 320.0]), 320 / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])
    corners = [centre + side * np.array(signs) @ turn for signs in ((-1, -1), (1, -1), (-1, 1))]
    encoded["images"][0]["corners"] = [corner.tolist() for corner in corners]
    components.viewer(heatmap=encoded)
    seen = page.locator("canvas.heat").evaluate(
        """canvas => {
            const {x, y, width, height} = canvas.getBoundingClientRect();
            const {a, b} = new DOMMatrix(getComputedStyle(canvas).transform);
            return [x + width / 2, y + height / 2, Math.atan2(b, a) * 180 / Math.PI, canvas.offsetWidth];
        }"""
    )
    assert seen[:2] == pytest.approx(picture_point(page, 0.4, 0.5), abs=0.5)
    assert seen[2] == pytest.approx(degrees, abs=0.01)
    assert seen[3] == pytest.approx(frame(page, "img.picture")["width"] / 2, abs=1)


def test_malformed_heat_maps_show_nothing(components: Components, page: Page) -> None:
    _, encoded = heat_map()
    image = encoded["images"][0]
    malformed = [
        {**image, "values": "%%%"},
        {**image, "values": image["values"][:8]},
        {**image, "values": ""},
        {**image, "rows": 0},
        {**image, "rows": -5, "columns": -7},
        {**image, "rows": 1e9, "columns": 1e9},
        {**image, "values": base64.b64encode(bytes(105)).decode()},
    ]
    for changed in malformed:
        components.viewer(heatmap={"images": [changed], "tokens": []})
        assert page.locator("canvas.heat").count() == 0, changed


def test_a_slider_compares_the_enhanced_picture(components: Components, page: Page) -> None:
    components.viewer(enhancedSrc="/examples/shelf_two.png")
    slider = page.get_by_role("slider", name="Compare the original with the enhanced picture")
    clip = "document.querySelector('.compared').style.clipPath"
    middle = page.evaluate(clip)
    slider.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "80 percent original"
    assert page.evaluate(clip) != middle


def test_a_broken_picture_is_said_so(components: Components, page: Page) -> None:
    page.route("**/broken.png", lambda route: route.fulfill(body="no picture", content_type="image/png"))
    components.viewer(src="/broken.png", marks=TWO)
    assert page.get_by_role("alert").inner_text() == "This picture cannot be shown."
