"""``vlrun serve --open``: which address is opened, and one line where there is no browser."""

from __future__ import annotations

import logging
import sys
import webbrowser

import pytest

from vlrun.server.browser import SCREENS, open_page, page_url


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are opened on a machine with a screen."""
    urls: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")

    def show(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    return urls


@pytest.mark.parametrize(
    ("listening", "page"),
    [
        ("http://127.0.0.1:8321", "http://127.0.0.1:8321/"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80/"),
        ("http://[::]:8321", "http://[::1]:8321/"),
        ("http://[::1]:8321", "http://[::1]:8321/"),
        ("http://192.0.2.7:8321", "http://192.0.2.7:8321/"),
    ],
)
def test_the_page_is_opened_where_a_browser_of_this_machine_reaches_it(listening: str, page: str) -> None:
    assert page_url(listening) == page


def test_a_browser_is_opened(opened: list[str], caplog: pytest.LogCaptureFixture) -> None:
    open_page("http://0.0.0.0:1")
    assert opened == ["http://127.0.0.1:1/"]
    assert not caplog.records


@pytest.mark.skipif(sys.platform == "darwin", reason="there is always a browser")
@pytest.mark.parametrize("reason", ["no screen", "not found", "failed", "not started"])
def test_without_a_browser_one_line_says_so(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    def fail(_url: str) -> bool:
        if reason == "failed":
            raise webbrowser.Error("no")
        if reason == "not started":
            raise FileNotFoundError("firefox")
        return False

    if reason == "no screen":
        for name in SCREENS:
            monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setattr(webbrowser, "open", fail)
    with caplog.at_level(logging.WARNING, "vlrun.server"):
        open_page("http://127.0.0.1:1")
    assert [record.getMessage() for record in caplog.records] == [
        "found no browser: open the page yourself url=http://127.0.0.1:1/"
    ]
    assert not opened
