"""A real Chromium for the tests of the pages, and what every page must not do in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.paths import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, ViewportSize

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # continuous integration runs as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
SIZES: dict[str, ViewportSize] = {
    "phone": {"width": 390, "height": 844},
    "tablet": {"width": 820, "height": 1180},
    "desktop": {"width": 1440, "height": 900},
}
TOUCH = frozenset({"phone", "tablet"})
WAIT_SECONDS = 60
"""How long Playwright waits for something to appear: a machine that is busy must not fail a test."""

LOAD_SECONDS = 120
"""How long a service may load its model while a browser runs beside it."""

STORED = "cookies,indexeddb,local_storage,service_workers,cache_storage"
"""What is deleted between tests; not the cache of files."""

FAILURES = ROOT / "build" / "browser-failures"
"""Where a failed test leaves a screenshot, the page and its console. With VLRUN_BROWSER_TRACE=1, also a trace."""

REQUIRED = "VLRUN_REQUIRE_BROWSER"


def missing(reason: str) -> None:
    """Skip the test, or fail it where a browser is required, as in continuous integration."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {reason}")
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium for a block. Playwright keeps an event loop in this thread for as long."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("there is no Chromium: apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Contexts:
    """Contexts of a browser by their kinds, each for one test at a time."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._unused: dict[Hashable, BrowserContext] = {}
        self._spoilt: list[BrowserContext] = []
        self._kept: dict[BrowserContext, Page] = {}

    @contextmanager
    def use(self, kind: Hashable, **options: Any) -> Iterator[BrowserContext]:
        """Lend a context of a kind, which is made with these options."""
        context = self._unused.pop(kind, None) or self._browser.new_context(**options)
        yield context
        if context in self._spoilt:
            self._spoilt.remove(context)
            context.close()
            return
        context.unroute_all(behavior="ignoreErrors")
        context.set_offline(False)
        for page in context.pages:
            if page is not self._kept.get(context):
                page.close()
        self._unused[kind] = context

    def kept_page(self, context: BrowserContext) -> Page:
        """Return the page of a context that stays open between its tests, as the last one left it."""
        if context not in self._kept:
            self._kept[context] = context.new_page()
        return self._kept[context]

    def spoil(self, context: BrowserContext) -> None:
        """Close a context after its test, because another one could not use it."""
        self._spoilt.append(context)


def empty_page(context: BrowserContext, origin: str) -> Page:
    """Open a page, after what earlier pages of the context stored is deleted."""
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": STORED})
    session.detach()
    return page


class Watch:
    """Collects what no page may do: log errors, throw, break its content security policy, leave its origin."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.origin = origin
        self.allowed = [re.compile("Service Worker registration blocked by Playwright")]
        self.problems: list[str] = []
        self.console: list[str] = []
        self.requests: list[Request] = []
        self._context = context
        self._listeners: dict[Any, Callable[[Any], None]] = {
            "request": self._on_request,
            "console": self._on_console,
            "weberror": lambda error: self.problems.append(f"uncaught: {error.error}"),
            "page": lambda page: page.on("crash", lambda _: self.problems.append("the page crashed")),
        }
        for event, listener in self._listeners.items():
            context.on(event, listener)

    def end(self) -> None:
        """Watch no longer."""
        for event, listener in self._listeners.items():
            self._context.remove_listener(event, listener)

    def allow(self, pattern: str) -> None:
        """Expect a problem that matches, such as Chromium's message of a failed request."""
        self.allowed.append(re.compile(pattern))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((f"{self.origin}/", "blob:", "data:")):
            self.problems.append(f"left the origin: {request.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        line = f"{message.type}: {message.text} ({message.location.get('url', '')})"
        self.console.append(line)
        if message.type in {"error", "warning", "assert"}:
            self.problems.append(line)

    def unexpected(self) -> list[str]:
        """Return the problems that no test allowed."""
        return [problem for problem in self.problems if not any(allowed.search(problem) for allowed in self.allowed)]


def keep_failure(folder: Path, page: Page, watch: Watch) -> None:
    """Write a screenshot of a page, its document and its console to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "console.txt").write_text("\n".join([*watch.console, "", "problems:", *watch.problems]), encoding="utf-8")
    if page.is_closed():
        return
    page.screenshot(path=folder / "page.png")
    (folder / "page.html").write_text(page.content(), encoding="utf-8")
