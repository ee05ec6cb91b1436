"""A page for tests of single components: it shows one viewer and one answer with the properties that a test sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.paths import ROOT
from tests.runtime.server.web.browser import WAIT_SECONDS
from vlrun.server.pages import POLICY, WEB
from vlrun.server.static_files import TYPES

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDERS = {"/web/": WEB, "/examples/": ROOT / "examples"}
PAGE = Path(__file__).parent / "components"


class _Files(SimpleHTTPRequestHandler):
    """Serves the page, the web page's sources and the examples, with the web page's content security policy."""

    extensions_map = {ending: kind.decode() for ending, kind in TYPES.items()}  # noqa: RUF012 - as in the base class

    def translate_path(self, path: str) -> str:
        path = path.partition("?")[0]
        for prefix, folder in FOLDERS.items():
            if path.startswith(prefix):
                return str(folder / path.removeprefix(prefix))
        return str(PAGE / (path.removeprefix("/") or "index.html"))

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY.format("'none'"))
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def component_site() -> Iterator[str]:
    """Serve the page for a block. Yields its origin."""
    service = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(PAGE)))
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{service.server_port}"
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


class Components:
    """The page, with what tests do on it."""

    def __init__(self, page: Page, site: str, language: str = "en") -> None:
        self.page = page
        if page.url != f"{site}/":
            page.goto(f"{site}/")
            page.wait_for_selector("html[data-ready]")
        page.mouse.move(1, (page.viewport_size or {"height": 1})["height"] - 1)  # where nothing is
        page.evaluate("language => reset(language)", language)

    def viewer(self, **properties: Any) -> None:
        """Show a picture; ``focus=True`` offers the focus box."""
        shown = {"src": "/examples/shelf.png", "width": 640, "height": 640, "label": "shelf.png", **properties}
        self.page.evaluate("viewer => show({viewer})", shown)
        self.page.wait_for_selector(".viewer img.picture")

    def answer(self, **properties: Any) -> None:
        """Show an answer."""
        self.page.evaluate("answer => show({answer})", properties)

    def until(self, expression: str) -> None:
        """Wait for an expression to hold. Playwright's wait_for_function is forbidden by the page's policy."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(20)

    def events(self, name: str) -> list[Any]:
        """What the components told the page, of one kind."""
        return [value for kind, value in self.page.evaluate("events") if kind == name]

    def state(self) -> Mapping[str, Any]:
        """What is lit and chosen now."""
        state: Mapping[str, Any] = self.page.evaluate("state")
        return state
