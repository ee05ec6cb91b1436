"""Rows 24 and 44 of the fault table on the real service: API keys, and the log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.server.error_checks import assert_error, still_answers
from tests.runtime.server.http_client import chat_request, get, post, shelf_request, wait_until
from tests.runtime.server.running_server import Server, serving
from tests.runtime.server.test_faults_http import GETS, MIB, POSTS

KEY = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def service_survives(server: Server) -> Iterator[None]:
    with still_answers(server):
        yield


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"kiosk: {KEY}\n")
    path.chmod(0o600)
    with serving("--api-key-file", str(path), "--log-prompts") as running:
        yield running


WRONG_KEYS = {
    "none": {},
    "empty": {"Authorization": ""},
    "no key": {"Authorization": "Bearer "},
    "wrong last character": {"Authorization": f"Bearer {KEY[:-1]}x"},
    "wrong first character": {"Authorization": f"Bearer x{KEY[1:]}"},
    "too short": {"Authorization": f"Bearer {KEY[:-1]}"},
    "too long": {"Authorization": f"Bearer {KEY}x"},
    "in capitals": {"Authorization": f"Bearer {KEY.upper()}"},
    "another scheme": {"Authorization": f"Basic {KEY}"},
    "no scheme": {"Authorization": KEY},
    "another header": {"Api-Key": KEY, "Cookie": f"Authorization=Bearer {KEY}"},
    "a wrong key in Anthropic's header": {"X-Api-Key": KEY[:-1]},
    "a scheme in Anthropic's header": {"X-Api-Key": f"Bearer {KEY}"},
    "not ASCII": {"Authorization": "Bearer schlüssel"},
    "1000 characters": {"Authorization": f"Bearer {'x' * 1000}"},
}


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", WRONG_KEYS)
def test_a_wrong_key_is_refused_on_all_paths(keyed: Server, name: str) -> None:
    """Row 24, CVE-2025-59425. middleware/test_api_keys.py tests the constant-time comparison."""
    headers = WRONG_KEYS[name]
    paths = [path for path in GETS if path != "/"]  # the page, which asks for the key
    answers = [get(keyed, path, headers) for path in (*paths, f"/v1/models?api_key={KEY}")]
    answers += [post(keyed, shelf_request(), path, headers) for path in POSTS]
    for answer in answers:
        assert_error(answer, 401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert get(keyed, "/health/live", headers).status == 200
    assert get(keyed, "/health", headers).json == {"status": "ok"}


@pytest.mark.fault(24)
def test_the_right_key_is_accepted_and_never_logged(keyed: Server) -> None:
    """Row 24."""
    auth_headers = {"Authorization": f"Bearer {KEY}"}
    assert [get(keyed, path, auth_headers).status for path in GETS[:6]] == [200] * 6
    assert post(keyed, shelf_request(), headers=auth_headers).text == "6"
    wait_until(lambda: any("key=kiosk" in line for line in keyed.log))
    assert KEY not in "\n".join(keyed.log)


@pytest.mark.fault(24)
@pytest.mark.parametrize("other", [None, "Bearer none", f"Basic {KEY}", f"Bearer {KEY}"])
def test_the_key_may_come_in_anthropics_header(keyed: Server, other: str | None) -> None:
    """Row 24. Clients of Anthropic's API have no other; some send a placeholder in OpenAI's beside it."""
    headers = {"X-Api-Key": KEY} | ({"Authorization": other} if other else {})
    assert post(keyed, shelf_request(), headers=headers).text == "6"
    wait_until(lambda: any("key=kiosk" in line for line in keyed.log))
    assert KEY not in "\n".join(keyed.log)


FORGED = "2026-11-22T00:00:00 info ready url=http://evil.example"
HOSTILE_TEXT = f"\r\n{FORGED}\x1b[31m\x9b\u202e\u2028\x07\x00" + "x" * MIB


@pytest.mark.fault(44)
def test_paths_cannot_forge_the_log(server: Server) -> None:
    """Row 44: line breaks, colours, bidirectional text, 4000 characters."""
    before = len(server.log)
    paths = ("/%0d%0a" + FORGED.replace(" ", "%20"), "/%1b[31m%9b%e2%80%ae%e2%80%a8%07%00", "/" + "x" * 4000)
    for path in paths:
        assert get(server, path).status == 404
    wait_until(lambda: sum(" status=404 " in line for line in server.log[before:]) == 3)
    lines = server.log[before:]
    assert all(re.match(r"\d{4}-\S+ info request method=(GET|POST) path=", line) for line in lines)
    assert all(line.isprintable() for line in lines)
    refused = [line for line in lines if " status=404 " in line]  # an earlier request may be logged late
    assert "\\r\\n2026" in refused[0]
    assert "(4001 characters)" in refused[2]
    assert max(map(len, lines)) < 500


@pytest.mark.fault(44)
def test_prompts_cannot_forge_the_log(keyed: Server) -> None:
    """Row 44: with --log-prompts a megabyte of untrusted text goes there, escaped and cut."""
    before = len(keyed.log)
    text = HOSTILE_TEXT.replace("\x00", "")[: MIB - 10]
    assert_error(post(keyed, chat_request(text), headers=auth_headers()), 400, "context_length_exceeded", "messages")
    assert post(keyed, chat_request(text[:300], max_tokens=3), headers=auth_headers()).status == 200
    wait_until(lambda: sum(" request " in line for line in keyed.log[before:]) == 2)
    lines = keyed.log[before:]
    assert all(re.match(r"\d{4}-\S+ info (request|prompt|answer) ", line) and line.isprintable() for line in lines)
    assert not any(line.startswith(FORGED) for line in lines)
    assert max(map(len, lines)) < 15_000


def auth_headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


@pytest.mark.fault(44)
def test_fields_of_a_form_cannot_forge_the_log(server: Server) -> None:
    """Row 44: the multipart library must not log invalid input."""
    before = len(server.log)
    lines = ('name="image"; filename="{}"\r\nContent-Transfer-Encoding: {}', 'name="{}"', "name={}")
    for line in lines:
        part = line.replace("{}", f"\x1b[31m {FORGED}")
        body = f"--B\r\nContent-Disposition: form-data; {part}\r\n\r\nx\r\n--B--\r\n"
        assert post(
            server, body.encode(), "/api/v1/chat", {"Content-Type": "multipart/form-data; boundary=B"}
        ).status in (400, 415)
    assert post(server, b"--A--", "/api/v1/chat", {"Content-Type": "multipart/form-data; boundary=B"}).status == 400
    wait_until(lambda: len(server.log) >= before + 4)
    assert all(" info request " in line for line in server.log[before:])


REFUSED: dict[str, tuple[object, str, str | None]] = {
    "unknown field": (chat_request("Hi", zebra=1), "unknown_parameter", "zebra"),
    "unsupported field": (chat_request("Hi", logit_bias={"11": -100}), "unsupported_parameter", "logit_bias"),
    "place of an image": (
        chat_request({"type": "image_url", "image_url": {"url": "http://evil.example/a.png"}}),
        "url_not_allowed",
        '"messages[0].content[0].image_url.url"',
    ),
    "no JSON": (b"{", "invalid_json", None),
    "another model": ({**chat_request("Hi"), "model": "gpt-5"}, "model_not_found", "model"),
    "a hostile name": (chat_request("Hi") | {f"\r\n{FORGED}\x1b[31m": 1}, "unknown_parameter", None),
}


@pytest.mark.fault(44)
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_is_logged_with_code_and_field(server: Server, name: str) -> None:
    """The line had the status only, and whoever ran an unknown client could not tell what it sent."""
    body, code, param = REFUSED[name]
    before = len(server.log)
    assert post(server, body).status in (400, 404)
    wait_until(lambda: any(" status=40" in line for line in server.log[before:]))
    (line,) = (line for line in server.log[before:] if " status=40" in line)
    assert f" code={code}" in line
    assert line.isprintable()
    if name == "a hostile name":
        assert 'param="\\\\r\\\\n2026' in line
    else:
        assert line.endswith(f" param={param}" if param else f" code={code}")


def test_refusals_before_the_endpoints_are_logged_with_their_code(keyed: Server) -> None:
    """And an error in a stream, whose status is 200."""
    before = len(keyed.log)
    assert get(keyed, "/v1/models").status == 401
    assert get(keyed, "/v1/models", {"Host": "evil.example", **auth_headers()}).status == 403
    assert get(keyed, "/v1/model", auth_headers()).status == 404
    assert get(keyed, "/v1/models", auth_headers()).status == 200
    wait_until(lambda: len(keyed.log) >= before + 4)
    codes = [re.findall(r" status=(\d+) .*?(?: code=(\S+))?$", line)[0] for line in keyed.log[before:]]
    assert codes == [("401", "invalid_api_key"), ("403", "host_not_allowed"), ("404", "not_found"), ("200", "")]
