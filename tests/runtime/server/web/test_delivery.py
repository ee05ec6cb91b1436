"""How the pages are delivered: their weight, their policy, and that the policy works."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.http_client import get
from vlrun.server.pages import WEB

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.runtime.server.running_server import Server
    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

MAX_BYTES = 250 * 1024
"""Of everything that a page may load, compressed, without pictures."""


@pytest.mark.parametrize("path", ["/", "/kiosk"])
def test_the_policy_allows_no_foreign_and_no_inline_code(
    page: Page, site: str, server: Server, watch: Watch, path: str
) -> None:
    policy = get(server, path, {"Accept": "text/html"}).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert policy.endswith("frame-ancestors 'none'")
    watch.allow("Content Security Policy")
    page.goto(f"{site}{path}")
    page.locator("button").first.wait_for()
    injected = """
    () => {
        const image = "<img src='/web/icon.svg' onload='window.owned = 1' style='top: 7px'>";
        document.body.insertAdjacentHTML("beforeend", image);
        const script = document.createElement("script");
        script.textContent = "window.owned = 2";
        document.body.append(script);
        return new Promise((done) => setTimeout(() => done([window.owned, document.body.lastElementChild
            .previousElementSibling.style.top]), 300));
    }
    """
    assert page.evaluate(injected) == [None, ""]
    assert any("Content Security Policy" in problem for problem in watch.problems)


def test_all_that_the_page_may_load_is_light() -> None:
    """Also what it loads only for some answers, such as KaTeX for formulas."""
    files = [path for path in WEB.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg", ".webmanifest"}]
    own = [path for path in files if "kiosk" not in path.relative_to(WEB).as_posix()]
    assert len(own) > 50
    assert sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in own) <= MAX_BYTES


@pytest.mark.parametrize("path", ["/", "/kiosk"])
def test_a_page_loads_fast_and_light(page: Page, site: str, watch: Watch, path: str) -> None:
    page.goto(f"{site}{path}")
    page.locator("button").first.wait_for()
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes()["responseBodySize"] for request in watch.requests if not request.url.endswith(".png")]
    entries = "performance.getEntriesByType('paint').map(({name, startTime}) => `${name} ${Math.round(startTime)} ms`)"
    print(f"{path}: {len(sizes)} requests, {sum(sizes)} bytes, {page.evaluate(entries)}")
    assert 0 < sum(sizes) <= MAX_BYTES
