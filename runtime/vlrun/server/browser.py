"""``vlrun serve --open``: shows the page in the user's browser."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from urllib.parse import urlsplit, urlunsplit

from vlrun.server.logging import log_event

LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Where a browser of this machine reaches a service on all addresses."""
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""One of them is set where there is a browser. Otherwise a text browser would be found, and take over the terminal."""


def page_url(url: str) -> str:
    """The URL of the page for a browser of this machine. ``url``: that of the listening socket."""
    host, separator, port = urlsplit(url).netloc.rpartition(":")
    return urlunsplit(("http", f"{LOOPBACK.get(host, host)}{separator}{port}", "/", "", ""))


def open_page(url: str) -> None:
    """Open the page, or log that there is no browser. May take seconds."""
    page = page_url(url)
    has_screen = sys.platform == "darwin" or any(map(os.environ.get, SCREENS))
    try:
        opened = has_screen and webbrowser.open(page)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        log_event("found no browser: open the page yourself", logging.WARNING, url=page)
