"""The docs page loads its own files only, and runs no inline scripts."""

from __future__ import annotations

import gzip
import html.parser
import re

import pytest

from vlrun.server.api.docs_page import TYPES, asset


class _Page(html.parser.HTMLParser):
    """The files that a page loads, and its inline scripts and handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.inline = ""
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in given if name.startswith("on")]
        self._script = tag in ("script", "style")
        if tag in ("script", "link"):
            self.loaded.append(given.get("src") or given.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        self.inline += data if self._script else ""


def unpacked(name: str) -> tuple[str, dict[bytes, bytes]]:
    found = asset(name, "gzip, deflate, br")
    assert found is not None
    return gzip.decompress(found[0]).decode(), dict(found[1])


def test_docs_page_loads_nothing_from_other_addresses() -> None:
    """The machine may be offline, and foreign scripts would get the API key."""
    page = _Page()
    page.feed(unpacked("index.html")[0])
    assert page.loaded
    for target in page.loaded:
        assert target == "data:," or (target.startswith("/docs/") and target.removeprefix("/docs/") in TYPES)
    assert not page.inline.strip()
    assert not page.handlers
    init = unpacked("init.js")[0]
    assert "validatorUrl: null" in init  # otherwise Swagger UI sends the document to an external validator
    assert not re.search("https?:", init)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_docs_page_forbids_inline_scripts(name: str) -> None:
    """Untrusted text in the document must not become a script."""
    text, headers = unpacked(name)
    assert text
    assert headers[b"content-encoding"] == b"gzip"
    policy = dict(rule.strip().split(" ", 1) for rule in headers[b"content-security-policy"].decode().split(";"))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")


@pytest.mark.parametrize("name", ["", "../docs_page.py", "swagger-ui.LICENSE.txt", "/etc/passwd", "README.md"])
def test_docs_page_serves_only_its_files(name: str) -> None:
    assert asset(name, "") is None


@pytest.mark.parametrize("name", sorted(TYPES))
@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        *[(header, True) for header in ("gzip", "GZIP", "deflate, gzip;q=1.0, *;q=0.5", "br;q=1, gzip;q=0.1", "*")],
        *[(header, False) for header in ("", "identity", "gzip;q=0", "gzip; q=0.0, *", "br", "xgzip", "gzip;q=x")],
    ],
)
def test_files_are_gzipped_only_for_clients_that_accept_it(name: str, accepted: str, packed: bool) -> None:
    """`curl http://127.0.0.1:8321/docs` printed binary data."""
    content, headers = asset(name, accepted) or (b"", {})
    assert headers[b"vary"] == b"Accept-Encoding"
    assert (headers.get(b"content-encoding") == b"gzip") == packed
    assert (gzip.decompress(content) if packed else content).decode() == unpacked(name)[0]
