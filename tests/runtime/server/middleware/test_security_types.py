"""The content types that the security middleware lets through, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.runtime.server.middleware.raw_server import RawServer, StubApp, ask, serve_app
from vlrun.server.middleware.security import SecurityMiddleware


@pytest.fixture(scope="module")
def app() -> StubApp:
    return StubApp()


@pytest.fixture(scope="module")
def plain(app: StubApp) -> Iterator[RawServer]:
    """The defaults: no key, no host names, no origins."""
    with serve_app(SecurityMiddleware(app, frozenset(), frozenset(), None, lambda: False)) as server:
        yield server


ALLOWED_TYPES = ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
ALLOWED_TYPES += ["multipart/form-data; boundary=x"]
REFUSED_TYPES = [
    "",
    "text/plain",
    "application/jsonx",
    "application/x-www-form-urlencoded",
    "text/plain, application/json",
]
REFUSED_TYPES += ["text/plain;application/json", "application/json, text/plain", "application/json; charset=utf-16"]


@pytest.mark.parametrize("kind", ALLOWED_TYPES)
def test_allowed_content_types(plain: RawServer, kind: str) -> None:
    assert ask(plain, f"Content-Type: {kind}", method="POST").status == 200


@pytest.mark.parametrize("kinds", [*[[kind] for kind in REFUSED_TYPES], [], ["application/json", "text/plain"]])
def test_refused_content_types(plain: RawServer, app: StubApp, kinds: list[str]) -> None:
    """A foreign page can post text/plain without a CORS preflight."""
    calls = len(app.calls)
    answer = ask(plain, *[f"Content-Type: {kind}" for kind in kinds], method="POST")
    assert (answer.status, answer.code) == (415, "invalid_type")
    assert len(app.calls) == calls


CURL = "application/x-www-form-urlencoded"
NO_TYPE = "no Content-Type"
DEFAULT_TYPES = [NO_TYPE, CURL, f"{CURL}; charset=UTF-8", "text/plain;charset=UTF-8"]
BROWSERS = ["Origin: http://127.0.0.1:%d", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"]


def headers_of(kind: str) -> list[str]:
    return [] if kind == NO_TYPE else [f"Content-Type: {kind}"]


@pytest.mark.parametrize("kind", DEFAULT_TYPES)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
def test_ollamas_clients_need_not_name_the_type(plain: RawServer, path: str, kind: str) -> None:
    """Ollama reads any body as JSON, and its own examples are for curl, which sends the type of a form."""
    assert ask(plain, *headers_of(kind), path=path, method="POST").status == 200


@pytest.mark.parametrize("kind", DEFAULT_TYPES)
@pytest.mark.parametrize("mark", BROWSERS)
def test_browsers_must_name_the_type_of_json(plain: RawServer, app: StubApp, mark: str, kind: str) -> None:
    """A page can send these types to other sites without a preflight, but never without Origin."""
    calls = len(app.calls)
    answer = ask(plain, mark, *headers_of(kind), path="/api/chat", method="POST")
    assert (answer.status, json.loads(answer.body).keys()) == (415, {"error"})
    assert len(app.calls) == calls


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_form_of_a_foreign_page_is_refused(plain: RawServer, app: StubApp, origin: str) -> None:
    calls = len(app.calls)
    answer = ask(plain, f"Origin: {origin}", f"Content-Type: {CURL}", path="/api/chat", method="POST")
    assert (answer.status, len(app.calls)) == (403, calls)


@pytest.mark.parametrize("kind", DEFAULT_TYPES)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/v1/chat", "/"])
def test_other_apis_want_the_type(plain: RawServer, path: str, kind: str) -> None:
    assert ask(plain, *headers_of(kind), path=path, method="POST").status == 415


@pytest.mark.parametrize("kinds", [["text/html"], ["text/plain; charset=utf-16"], [CURL, CURL], ["", "text/plain"]])
def test_ollamas_clients_must_not_name_a_wrong_type(plain: RawServer, kinds: list[str]) -> None:
    headers = [f"Content-Type: {kind}" for kind in kinds]
    assert ask(plain, *headers, path="/api/chat", method="POST").status == 415
