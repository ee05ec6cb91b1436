"""How the pages are delivered: their weight, their policy, and that the policy works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.http_client import get

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.runtime.server.running_server import Server
    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

MAX_BYTES = 250_000
"""Of a page, compressed, without pictures. tools/web/files.js also counts what it loads for some answers only."""


AUDITS = """async () => {
    const meta = (name) => document.querySelector(`meta[name=${name}]`)?.content ?? "";
    const shown = (selector) => [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility());
    const isSmall = (each) => Math.min(each.offsetWidth, each.offsetHeight) < 44;
    const shifts = await new Promise((done) => {
        new PerformanceObserver((list) => done(list.getEntries())).observe({type: "layout-shift", buffered: true});
        setTimeout(() => done([]), 100);
    });
    const audits = {
        "standards mode": document.compatMode === "CSS1Compat",
        "UTF-8": document.characterSet === "UTF-8",
        "language": /^(en|zh-CN)$/.test(document.documentElement.lang),
        "title": document.title !== "",
        "description": meta("description") !== "",
        "width of the device": meta("viewport").includes("width=device-width"),
        "images have texts": shown("img").every((image) => image.hasAttribute("alt")),
        "nothing moves": shifts.reduce((sum, {value}) => sum + value, 0) < 0.1,
        "nothing blocks": !document.querySelector("head script:not([type=module], [async], [defer])"),
    };
    const small = shown("button, a, label:has(input)").filter(isSmall).map((each) => `small: ${each.outerHTML}`);
    return [...Object.keys(audits).filter((name) => !audits[name]), ...small];
}"""
INJECT = """() => {
    const image = "<img src='/web/icon.svg' onload='window.owned = 1' style='top: 7px'>";
    document.body.insertAdjacentHTML("beforeend", image);
    const script = document.createElement("script");
    script.textContent = "window.owned = 2";
    document.body.append(script);
    return new Promise((done) => setTimeout(() => done([window.owned, document.body.lastElementChild
        .previousElementSibling.style.top]), 300));
}"""


@pytest.mark.parametrize("size", ["phone"])
@pytest.mark.parametrize("path", ["/", "/kiosk"])
def test_a_page_is_light_passes_audits_and_runs_no_foreign_code(
    page: Page, site: str, server: Server, watch: Watch, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audits are those of Lighthouse that need no network. Times, which depend on the machine, are only printed."""
    policy = get(server, path, {"Accept": "text/html"}).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert policy.endswith("frame-ancestors 'none'")
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.goto(f"{site}{path}")
    page.locator("button").first.wait_for()
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes()["responseBodySize"] for request in watch.requests if not request.url.endswith(".png")]
    entries = "performance.getEntriesByType('paint').map(({name, startTime}) => `${name} ${Math.round(startTime)} ms`)"
    with capsys.disabled():
        print(f"\n{path}: {len(sizes)} requests, {sum(sizes)} bytes, {page.evaluate(entries)}")
    assert 0 < sum(sizes) <= MAX_BYTES
    assert page.evaluate(AUDITS) == []
    watch.allow("Content Security Policy")
    assert page.evaluate(INJECT) == [None, ""]
    assert any("Content Security Policy" in problem for problem in watch.problems)
