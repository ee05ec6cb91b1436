"""The web page and /docs: their files load nothing from other addresses, run no inline scripts, and need no key."""

from __future__ import annotations

import html.parser
import re

import pytest
from click.testing import CliRunner

from tests.runtime.server.error_checks import assert_error
from tests.runtime.server.http_client import connect, get, post
from tests.runtime.server.running_server import ALICE, FRAME_ANCESTOR, KEY, Server, serving
from vlrun.cli.serve import serve
from vlrun.errors import OptionError
from vlrun.server.pages import DOCS, DOCS_FILES, DOCS_POLICY, WEB, is_public
from vlrun.server.static_files import TYPES, read_files

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = {"docs": read_files(DOCS, {}, DOCS_FILES), "web": read_files(WEB, {})}
PAGES = [(folder, name) for folder, files in FILES.items() for name in files if name.endswith(".html")]
PATHS = {"/docs": "docs/index.html", "/": "web/index.html", "/kiosk": "web/kiosk.html"}


class _Page(html.parser.HTMLParser):
    """The files that a page loads, and what its policy would block: inline scripts, styles and handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.blocked: list[str] = []
        self._inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.blocked += [name for name in given if name.startswith("on") or name == "style"]
        self._inline = tag in ("script", "style")
        if tag in ("script", "link", "img"):
            self.loaded += [given[name] for name in ("src", "href") if name in given]

    def handle_endtag(self, tag: str) -> None:
        self._inline = False

    def handle_data(self, data: str) -> None:
        self.blocked += [data] if self._inline and data.strip() else []


@pytest.mark.parametrize(("folder", "name"), PAGES)
def test_pages_load_their_own_files_only_and_have_nothing_inline(folder: str, name: str) -> None:
    """The machine may be offline, and foreign scripts would get the API key."""
    page = _Page()
    page.feed(FILES[folder][name].content.decode())
    assert not page.blocked
    for target in page.loaded:
        assert target == "data:," or re.sub(f"^/{folder}/", "", target) in FILES[folder], target


def test_docs_say_nothing_to_a_validator() -> None:
    init = FILES["docs"]["init.js"].content.decode()
    assert "validatorUrl: null" in init  # otherwise Swagger UI sends the document to an external validator
    assert not re.search("https?:", init)
    policy = dict(rule.strip().split(" ", 1) for rule in DOCS_POLICY.decode().split(";"))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert set(FILES["docs"]) == set(DOCS_FILES)


def test_every_file_of_the_web_page_is_served_or_explained() -> None:
    """A file with an ending that the service does not know would be missing in the browser only."""
    others = {path.suffix for path in WEB.rglob("*") if path.is_file()} - set(TYPES)
    assert others <= {".md", ".ts", ""}  # READMEs, types for editors, licences


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_pages_have_their_file_and_a_strict_policy(server: Server, path: str) -> None:
    folder, _, name = PATHS[path].partition("/")
    reply = get(server, path, BROWSER)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.body == FILES[folder][name].content
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["cache-control"] == "no-cache"
    assert get(server, path, {**BROWSER, "If-None-Match": reply.headers["etag"]}).status == 304
    if folder == "web":
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["permissions-policy"] == "camera=(self), microphone=(), geolocation=()"


@pytest.mark.slow
def test_the_start_page_is_text_for_everything_but_browsers(server: Server) -> None:
    for accepted in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        reply = get(server, "/", accepted)
        assert (reply.status, reply.headers["vary"]) == (200, "Accept")
        assert reply.body.decode().endswith("Ollama is running")
    assert get(server, "/", BROWSER).headers["vary"] == "Accept, Accept-Encoding"


TRAVERSAL = """/web/../app.py /web/%2e%2e/app.py /web/..%2fapp.py /web//etc/passwd /web/%2fetc/passwd /web/./index.html
    /web/index.html/ /web/index.html%00 /web/INDEX.HTML /web/app/..%5c..%5capp.py /web/ /web /web/index
    /web/index.html.gz /web/~ /web/%c0%ae%c0%ae/app.py /docs/openapi.json /docs/README.md
    /docs/../app.py /docs/example.png
    /kiosk/../web/index.html /kiosk/ /kiosk.html""".split()


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAVERSAL)
def test_only_files_of_the_page_are_sent(server: Server, path: str) -> None:
    assert_error(get(server, path, BROWSER), 404, "not_found")


@pytest.mark.slow
def test_all_files_are_sent_with_their_headers_and_without_a_key(strict_server: Server) -> None:
    connection = connect(strict_server)
    for name, file in FILES["web"].items():
        connection.request("HEAD", f"/web/{name}", headers={"Accept-Encoding": "gzip"})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
        assert int(reply.headers["content-length"]) == len(file.packed or file.content)
        assert "default-src 'none'" in reply.headers["content-security-policy"]


@pytest.mark.slow
def test_the_page_needs_no_key_and_says_nothing_about_the_model(strict_server: Server) -> None:
    for path in ("/", "/kiosk", "/web/index.html"):
        assert get(strict_server, path, BROWSER).status == 200
    text = get(strict_server, "/").body.decode()
    assert "API key" in text
    assert "vlrun-tiny" not in text
    assert_error(get(strict_server, "/web/nothing.js"), 404, "not_found")
    for path in ("/docs", "/openapi.json", "/v1/models", "/health/ready", "/kiosks", "/webs/index.html"):
        assert_error(get(strict_server, path, BROWSER), 401, "invalid_api_key")
        assert get(strict_server, path, {"Authorization": f"Bearer {KEY}"}).status in (200, 404)
    for path in ("/", "/kiosk", "/web/index.html"):
        assert_error(post(strict_server, {}, path), 401, "invalid_api_key")


@pytest.mark.slow
def test_foreign_pages_and_hosts_get_no_file(server: Server) -> None:
    """Host and Origin are checked before files too: a page on a rebound name would otherwise be our origin."""
    for path in ("/", "/kiosk", "/web/index.html"):
        assert_error(get(server, path, {**BROWSER, "Host": f"evil.example:{server.port}"}), 403, "host_not_allowed")
        assert_error(get(server, path, {**BROWSER, "Origin": "https://evil.example"}), 403, "origin_not_allowed")
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert_error(get(server, path, {**BROWSER, **embedded}), 403, "origin_not_allowed")


@pytest.mark.parametrize("path", ["/webs", "/web", "/kiosk2", "/v1/models", "/docs", "/metrics", "//", "/web../x", ""])
def test_nothing_else_is_public(path: str) -> None:
    assert not is_public(path)


@pytest.mark.slow
def test_a_frame_ancestor_may_show_the_page_and_nothing_else(configured_server: Server) -> None:
    for path in ("/", "/kiosk", "/web/index.html"):
        headers = get(configured_server, path, BROWSER).headers
        assert headers["content-security-policy"].endswith(f"frame-ancestors {FRAME_ANCESTOR}")
        assert "x-frame-options" not in headers
    for path in ("/docs", "/v1/models", "/kiosk/logo", "/"):
        headers = get(configured_server, path, {"Authorization": f"Bearer {ALICE}"}).headers
        assert headers["x-frame-options"] == "DENY"


@pytest.mark.slow
def test_the_kiosk_gets_the_operators_configuration(configured_server: Server, server: Server) -> None:
    reply = get(configured_server, "/kiosk/config.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["title"] == "Shelf"
    assert reply.json["questions"] == [{"label": "<b>What?</b>", "task": "shelf"}]
    logo = get(configured_server, reply.json["logo"])
    assert (logo.status, logo.headers["content-type"]) == (200, "image/svg+xml")
    assert logo.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert get(server, "/kiosk/config.json").json["logo"] is None
    assert_error(get(server, "/kiosk/logo"), 404, "not_found")
    assert_error(get(configured_server, "/kiosk/kiosk.toml"), 404, "not_found")


@pytest.mark.slow
def test_tasks_of_a_file_are_listed(configured_server: Server) -> None:
    tasks = get(configured_server, "/v1/tasks", {"Authorization": f"Bearer {ALICE}"}).json["data"]
    assert tasks[-1] | {"about": ""} == {
        "id": "shelf",
        "object": "task",
        "about": "",
        "items": "none",
        "fields": "none",
        "images": 1,
        "structured": False,
        "merge": "none",
    }


@pytest.mark.slow
def test_a_missing_browser_is_one_line_in_the_log(configured_server: Server) -> None:
    found = configured_server.wait_for(re.compile("found no browser: open the page yourself url=(.*)$"))
    assert found[1] == f"{configured_server.url}/"


@pytest.mark.slow
def test_without_the_page_there_is_the_api_alone() -> None:
    with serving("--no-web") as running:
        assert b'<a href="/docs">' in get(running, "/", BROWSER).body
        assert b"vlrun-tiny" in get(running, "/").body
        for path in ("/kiosk", "/kiosk/config.json", "/web/index.html"):
            assert_error(get(running, path, BROWSER), 404, "not_found")
        assert get(running, "/v1/tasks").status == get(running, "/docs").status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-web", "--open"], "--no-web serves no page: leave out --open"),
        (["--no-web", "--frame-ancestor", "https://x.example"], "--no-web serves no page: leave out --frame-ancestor"),
        (["--no-web", "--kiosk-config", str(WEB / "index.html")], "leave out --kiosk-config"),
        (["--frame-ancestor", "https://x.example/"], "did you mean https://x.example?"),
        (["--frame-ancestor", "null"], "--frame-ancestor cannot be 'null'"),
        (["--frame-ancestor", "*"], "--frame-ancestor takes no wildcard"),
        (["--frame-ancestor", "https://x.example; script-src *"], "--frame-ancestor"),
        (["--kiosk-config", str(WEB / "index.html")], "is not a TOML file"),
        (["--tasks", str(WEB / "index.html")], "is not a task file"),
    ],
)
def test_the_service_does_not_start_with_a_wrong_option(options: list[str], message: str) -> None:
    result = CliRunner().invoke(serve, ["--port", "0", *options], standalone_mode=False)
    assert isinstance(result.exception, OptionError), result.output
    assert message in str(result.exception)
