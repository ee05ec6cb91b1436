"""Pages in a real browser: one browser per module, and for each test a fresh context that is watched.

A test asks for ``page``. To choose a size, language or colour scheme, it parametrizes ``size``, ``language`` or
``scheme``; a module whose pages come from another service overrides ``site``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.browser import FAILURES, SIZES, TOUCH, WAIT_SECONDS, Watch, chromium, keep_failure
from tests.runtime.server.web.page_steps import Texts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.runtime.server.running_server import Server

LOCALES = {"en": "en-GB", "zh": "zh-CN"}
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the whole session: Playwright's event loop would be in the way of asyncio in other tests."""
    with chromium() as running:
        yield running


@pytest.fixture
def site(server: Server) -> str:
    """The origin of the pages."""
    return server.url


@pytest.fixture
def size() -> str:
    return "desktop"


@pytest.fixture
def language() -> str:
    return "en"


@pytest.fixture
def scheme() -> str:
    return "light"


@pytest.fixture
def service_workers() -> Literal["allow", "block"]:
    """They would take requests that a test wants to answer."""
    return "block"


@pytest.fixture
def context(
    browser: Browser, size: str, language: str, scheme: Any, service_workers: Literal["allow", "block"]
) -> Iterator[BrowserContext]:
    """A fresh profile: no storage, no cache."""
    context = browser.new_context(
        viewport=SIZES[size],
        has_touch=size in TOUCH,
        is_mobile=size == "phone",
        locale=LOCALES[language],
        color_scheme=scheme,
        reduced_motion="reduce",
        permissions=["camera", "clipboard-read", "clipboard-write"],
        accept_downloads=True,
        service_workers=service_workers,
    )
    context.set_default_timeout(WAIT_SECONDS * 1000)
    yield context
    context.close()


@pytest.fixture
def watch(context: BrowserContext, site: str) -> Watch:
    """What went wrong in the pages of this test; ``watch.allow`` what the test provokes."""
    return Watch(context, site)


@pytest.fixture
def page(request: pytest.FixtureRequest, context: BrowserContext, watch: Watch) -> Iterator[Page]:
    """An empty page. At the end of the test it must have no problem that the test did not allow."""
    folder = FAILURES / re.sub(r"[^\w.-]+", "-", request.node.nodeid.partition("web/")[2])
    shutil.rmtree(folder, ignore_errors=True)
    traced = os.environ.get("VLRUN_BROWSER_TRACE") == "1"
    if traced:
        context.tracing.start(screenshots=True, snapshots=True)
    page = context.new_page()
    yield page
    problems = watch.unexpected()
    failed = bool(problems) or request.node.stash.get(FAILED, False)
    if failed:
        keep_failure(folder, page, watch)
    if traced:
        context.tracing.stop(path=folder / "trace.zip" if failed else None)
    assert not problems, f"see {folder}"


@pytest.fixture
def texts(page: Page, language: str) -> Texts:
    return Texts(page, language)


@pytest.fixture
def opened(page: Page, site: str) -> Page:
    """The page at ``/``, when it knows the service."""
    page.goto(site)
    page.locator(".dot-ok").wait_for()
    return page


@pytest.fixture
def calls(context: BrowserContext) -> list[tuple[str, str]]:
    """The requests about pictures."""
    fakes.kiosk(context)
    return fakes.images(context)


@pytest.fixture
def kiosk(page: Page, site: str, calls: list[tuple[str, str]]) -> Page:
    """The kiosk as it waits for a person."""
    page.goto(f"{site}/kiosk")
    page.locator(".home h1").wait_for()
    return page
