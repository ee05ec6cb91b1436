"""The watch over pages finds what it is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.server.web import browser as browsers

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.runtime.server.web.browser import Watch

pytestmark = pytest.mark.slow

POLICY = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self'; img-src * data:; connect-src *"


def _show(page: Page, site: str, document: str) -> None:
    """Open a document under the origin of the service."""

    def answer(route: Route) -> None:
        route.fulfill(body=document, content_type="text/html", headers={"Content-Security-Policy": POLICY})

    page.route("**/probe", answer)
    page.goto(f"{site}/probe")


PROBLEMS = {
    "error: broken": "<script>console.error('broken')</script>",
    "warning: deprecated": "<script>console.warn('deprecated')</script>",
    "uncaught: .*thrown": "<script>throw new Error('thrown')</script>",
    "uncaught: .*rejected": "<script>Promise.reject(new Error('rejected'))</script>",
    "Content Security Policy": "<p style='color: red'>styled</p>",
    "left the origin.*9/$": "<script>fetch('http://127.0.0.1:9/', {mode: 'no-cors'}).catch(() => {})</script>",
    "left the origin.*png": "<img src='http://localhost:9/picture.png' alt=''>",
    "404": "<script>fetch('/v1/nothing').then((response) => response.text())</script>",
}


def test_the_watch_finds_problems(page: Page, site: str, watch: Watch) -> None:
    _show(page, site, "<!doctype html><link rel='icon' href='data:,'>" + "".join(PROBLEMS.values()))
    page.wait_for_load_state("networkidle")
    for problem in PROBLEMS:
        found = watch.unexpected()
        watch.allow(problem)
        assert len(watch.unexpected()) < len(found), f"{problem} is not among {found}"
    watch.allow("")


def test_a_page_without_problems_passes(page: Page, site: str, watch: Watch) -> None:
    _show(page, site, "<!doctype html><link rel='icon' href='data:,'><title>Quiet</title>")
    assert page.title() == "Quiet"
    assert not watch.unexpected()


def test_without_a_browser_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a CI run that skips all tests of the pages."""
    monkeypatch.setattr(browsers, "PROGRAMS", ("no-such-browser",))
    monkeypatch.delenv(browsers.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install chromium"), browsers.chromium():
        pass
    monkeypatch.setenv(browsers.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"), browsers.chromium():
        pass
