"""Pages in a real browser: one browser for all tests here, and for each test an empty page that is watched.

A test asks for ``page``. To choose a size, language or colour scheme, it parametrizes ``size``, ``language`` or
``scheme``; a module whose pages come from another service overrides ``site``. Tests of one kind share a browser
context, which is emptied between them: a new one loads and compiles all scripts again, which takes most of a test's
time. Tests of components even share their page.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.runtime.server.web import fakes
from tests.runtime.server.web.browser import (
    FAILURES,
    SIZES,
    TOUCH,
    WAIT_SECONDS,
    Contexts,
    Watch,
    chromium,
    empty_page,
    keep_failure,
)
from tests.runtime.server.web.components import component_site
from tests.runtime.server.web.page_steps import Texts

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.running_server import Server

LOCALES = {"en": "en-GB", "zh": "zh-CN"}
FAILED = pytest.StashKey[bool]()
RESOURCES = pytest.StashKey[ExitStack]()
CONTEXTS = pytest.StashKey[Contexts]()
COMPONENTS = pytest.StashKey[str]()
FOLDER = Path(__file__).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Close the browser after the last test here: Playwright's event loop is in the way of asyncio in other tests."""
    result = yield
    if nextitem is None or FOLDER not in nextitem.path.parents:
        item.session.stash.setdefault(RESOURCES, ExitStack()).close()
    return result


@pytest.fixture
def contexts(request: pytest.FixtureRequest) -> Contexts:
    """The contexts of Chromium, which is started for the first test."""
    stack = request.session.stash.setdefault(RESOURCES, ExitStack())
    if CONTEXTS not in request.session.stash:
        request.session.stash[CONTEXTS] = Contexts(stack.enter_context(chromium()))
        stack.callback(request.session.stash.__delitem__, CONTEXTS)
    return request.session.stash[CONTEXTS]


@pytest.fixture
def component_origin(request: pytest.FixtureRequest) -> str:
    """The origin of the page that shows single components."""
    stash = request.session.stash
    if COMPONENTS not in stash:
        stash[COMPONENTS] = stash.setdefault(RESOURCES, ExitStack()).enter_context(component_site())
        stash[RESOURCES].callback(stash.__delitem__, COMPONENTS)
    return stash[COMPONENTS]


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
    contexts: Contexts, site: str, size: str, language: str, scheme: Any, service_workers: Literal["allow", "block"]
) -> Iterator[BrowserContext]:
    """A profile for the pages of one test."""
    with contexts.use(
        (site, size, language, scheme, service_workers),
        viewport=SIZES[size],
        has_touch=size in TOUCH,
        is_mobile=size == "phone",
        locale=LOCALES[language],
        color_scheme=scheme,
        reduced_motion="reduce",
        permissions=["camera", "clipboard-read", "clipboard-write"],
        accept_downloads=True,
        service_workers=service_workers,
    ) as context:
        context.set_default_timeout(WAIT_SECONDS * 1000)
        yield context


@pytest.fixture
def clock(contexts: Contexts, context: BrowserContext) -> None:
    """Let the test move the clock of the page, ``page.clock``. The context cannot be used again after that."""
    contexts.spoil(context)
    context.clock.install()


@pytest.fixture
def watch(context: BrowserContext, site: str) -> Iterator[Watch]:
    """What went wrong in the pages of this test; ``watch.allow`` what the test provokes."""
    watch = Watch(context, site)
    yield watch
    watch.end()


@pytest.fixture
def tab(context: BrowserContext, site: str, watch: Watch) -> Page:
    """An empty page, without what earlier ones stored."""
    return empty_page(context, site)


@pytest.fixture
def page(request: pytest.FixtureRequest, context: BrowserContext, tab: Page, watch: Watch) -> Iterator[Page]:
    """The page of the test. At its end it must have no problem that the test did not allow."""
    folder = FAILURES / re.sub(r"[^\w.-]+", "-", request.node.nodeid.partition("web/")[2])
    shutil.rmtree(folder, ignore_errors=True)
    traced = os.environ.get("VLRUN_BROWSER_TRACE") == "1"
    if traced:
        context.tracing.start(screenshots=True, snapshots=True)
    yield tab
    problems = watch.unexpected()
    failed = bool(problems) or request.node.stash.get(FAILED, False)
    if failed:
        keep_failure(folder, tab, watch)
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
def calls() -> list[tuple[str, str]]:
    """The requests about pictures, if ``kiosk`` or ``timed`` is the page."""
    return []


@pytest.fixture
def kiosk(page: Page, site: str, calls: list[tuple[str, str]]) -> Page:
    """The kiosk as it waits for a person."""
    fakes.kiosk(page)
    page.goto(f"{site}/kiosk")
    page.locator(".home h1").wait_for()
    fakes.images(page.context, calls)
    return page


@pytest.fixture
def timed(clock: None, kiosk: Page) -> Page:
    """The kiosk, with a clock that the test moves."""
    return kiosk
