"""A real service on the embedded model: right answers, and every way in which a request or the service itself ends."""

from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.paths import EXAMPLES, ROOT
from tests.runtime.server.http_client import (
    Reply,
    asked,
    begin,
    endless,
    events,
    get,
    idle,
    image,
    metric,
    new_image,
    post,
    shelf,
    until,
)
from tests.runtime.server.running_server import READY, Server, serving
from vlrun.cli.serve import ListenOptions
from vlrun.errors import ServiceError


def test_readiness_says_what_answers(server: Server) -> None:
    """Guards the kiosk's monitor: model, device and queue."""
    ready = get(server, "/health/ready")
    assert ready.status == 200
    assert ready.json["ready"]
    assert (ready.json["model"], ready.json["device"]) == ("vlrun-tiny", "CPU")
    assert ready.json["queue"] == {"running": 0, "waiting": 0, "limit": 16}
    assert get(server, "/health/live").json == {"status": "ok"}


@pytest.mark.fault(27)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(server: Server, stream: bool) -> None:
    """Guards row 27: a client that has left, streaming or not, costs no further step."""
    connection = begin(server, endless(stream=stream))
    until(lambda: metric(server, "vlrun_engine_running") == 1)
    if stream:
        response = connection.getresponse()
        assert response.read(100)
    before = metric(server, "vlrun_requests_total")
    connection.leave()
    assert until(lambda: idle(server)) < 1.0, "it went on for a while"
    until(lambda: metric(server, "vlrun_requests_total") == before + 1)
    assert post(server, shelf()).text == "6"


def test_a_stream_has_the_form_that_clients_expect(server: Server) -> None:
    """Guards proxies and parsers: content type, no buffering, comments for progress, the end mark."""
    response = begin(server, shelf(stream=True, stream_options={"include_usage": True})).getresponse()
    assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert response.getheader("x-accel-buffering") == "no"
    received = list(events(response))
    data = [line for line in received if not line.startswith(":")]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(line) for line in data[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "6"
    assert chunks[-1]["usage"]["completion_tokens"] >= 1


def test_progress_keeps_a_stream_alive(server: Server) -> None:
    """Guards proxies and dead clients: comments during vision and prefill, before any text comes."""
    request = asked(new_image(), new_image(), "word " * 500, stream=True, max_tokens=1)
    received = list(events(begin(server, request).getresponse()))
    comments = [re.fullmatch(r": (vision|prefill) (\d+) %", line) for line in received if line.startswith(":")]
    seen = [(match[1], int(match[2])) for match in comments if match]
    assert {phase for phase, _ in seen} == {"vision", "prefill"}
    assert seen == sorted(seen, key=lambda one: (one[0] == "prefill", one[1]))


def test_tokens_are_counted_as_they_will_be(server: Server) -> None:
    """Guards /v1/tokenize against another count than that of the answer."""
    request = shelf()
    used = post(server, request).json["usage"]
    counted = post(server, {"messages": request["messages"]}, "/v1/tokenize").json
    assert counted["count"] == used["prompt_tokens"]
    assert counted["image_tokens"] == used["prompt_tokens_details"]["image_tokens"]
    assert counted["context"] == 4096
    assert counted["remaining"] == 4096 - counted["count"]
    assert post(server, {"prompt": "Hello <|im_start|>"}, "/v1/tokenize").json["count"] > 2


def test_unknown_paths_and_methods(server: Server) -> None:
    """Guards against the framework's own words: 404 and 405 in the error's shape."""
    assert get(server, "/v1/nothing").json["error"]["code"] == "not_found"
    wrong = get(server, "/v1/chat/completions")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert get(server, "/v1/models/no/such").json["error"]["code"] == "model_not_found"


@pytest.mark.fault(29)
def test_a_full_queue_says_when_to_come_again() -> None:
    """Guards row 29."""
    with serving("--parallel", "1", "--queue", "1") as small:
        busy = [begin(small, endless()) for _ in range(2)]
        until(lambda: metric(small, "vlrun_requests_waiting") == 1)
        refused = post(small, shelf())
        assert refused.status == 429
        assert refused.json["error"] == {
            "message": "too many requests are waiting: try again later",
            "type": "rate_limit_error",
            "param": None,
            "code": "busy",
        }
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-should-retry"] == "true"
        assert get(small, "/health/ready").json["queue"] == {"running": 1, "waiting": 1, "limit": 1}
        for connection in busy:
            connection.close()
        until(lambda: idle(small))
        assert post(small, shelf()).text == "6"


@pytest.mark.fault(30)
def test_a_request_over_its_deadline() -> None:
    """Guards row 30: 504, or the stream's last event; and the place is free."""
    with serving("--deadline", "1") as hasty:
        late = post(hasty, endless(n=4))
        assert late.status == 504
        assert late.json["error"]["code"] == "deadline_exceeded"
        received = [line for line in events(begin(hasty, endless(n=4, stream=True)).getresponse()) if line[0] != ":"]
        assert json.loads(received[-1])["error"]["code"] == "deadline_exceeded"
        assert len(received) > 10
        until(lambda: idle(hasty))
        assert post(hasty, shelf()).text == "6"


@pytest.mark.fault(31)
def test_stopping_lets_running_answers_end() -> None:
    """Guards row 31: a stream goes on to its [DONE], new requests get 503, and the process ends well."""
    with serving("--drain", "120") as leaving:  # a busy machine may need more than the default
        response = begin(leaving, endless(stream=True, max_tokens=2000)).getresponse()
        response.read(50)
        leaving.process.send_signal(signal.SIGTERM)
        leaving.wait_for(re.compile("stopping"))
        refused = post(leaving, shelf())
        assert refused.status == 503
        assert refused.json["error"]["code"] == "stopping"
        assert refused.headers["retry-after"] == "5"
        assert get(leaving, "/health/ready").json["status"] == "stopping"
        assert get(leaving, "/health/live").status == 200
        assert list(events(response))[-1] == "[DONE]"
        assert leaving.process.wait(10) == 0


@pytest.mark.fault(31)
def test_stopping_cancels_what_takes_too_long() -> None:
    """Guards row 31: after the time for draining, a stream is told so."""
    with serving("--drain", "0.5") as leaving:
        response = begin(leaving, endless(stream=True, n=4)).getresponse()
        response.read(50)
        leaving.process.send_signal(signal.SIGTERM)
        received = [line for line in events(response) if not line.startswith(":")]
        assert json.loads(received[-1])["error"]["code"] == "stopping"
        assert leaving.process.wait(10) == 0


@pytest.mark.fault(31)
def test_a_second_signal_ends_at_once() -> None:
    """Guards Ctrl+C twice."""
    server = Server([])
    server.url = server.wait_for(READY)[1]
    _busy = begin(server, endless(n=4))
    until(lambda: metric(server, "vlrun_engine_running") == 4)
    server.process.send_signal(signal.SIGINT)
    server.wait_for(re.compile("stopping"))
    began = time.monotonic()
    assert server.stop(signal.SIGINT) == 130
    assert time.monotonic() - began < 2


def test_keys_are_needed_everywhere_but_live(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Guards row 24 through the whole program, and the log against keys."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("kiosk: correct-horse-battery\n")
    path.chmod(0o600)
    with serving("--api-key-file", str(path)) as keyed:
        for place in ("/v1/models", "/health/ready", "/metrics", "/docs", "/openapi.json", "/nowhere"):
            assert get(keyed, place).status == 401
        assert get(keyed, "/health/live").status == 200
        wrong = post(keyed, shelf(), headers={"Authorization": "Bearer correct-horse-batterx"})
        assert wrong.status == 401
        assert wrong.headers["www-authenticate"] == "Bearer"
        right = post(keyed, shelf(), headers={"Authorization": "Bearer correct-horse-battery"})
        assert right.text == "6"
        until(lambda: any("key=kiosk" in line for line in keyed.log))
        assert not any("horse" in line for line in keyed.log)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--host", "0.0.0.0"), "other machines can reach"),
        (("--host", "no-such-name.invalid"), "cannot listen on no-such-name.invalid"),
        (("--api-key-file", "no/such/file"), "cannot be read"),
        (("--model", "no/such/model"), "no/such/model"),
        (("--systemd",), "expects one socket from systemd"),
    ],
)
def test_it_does_not_start_in_the_wrong_way(options: tuple[str, ...], sentence: str) -> None:
    """Guards against an open door, a stack trace, and a service that only seems to run."""
    server = Server(options)
    code = server.ended()
    assert code == (4 if "--model" in options else 12)
    assert len([line for line in server.log if line.startswith("vlrun: ")]) <= 2
    assert sentence in server.log[-1]
    assert not any("Traceback" in line for line in server.log)


@pytest.mark.parametrize(
    ("address", "open_to_all"),
    [
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("::1", False),
        ("::1234", True),
        ("192.0.2.1", True),
        ("fe80::1%2", True),
        ("0.0.0.0", True),
        ("::", True),
    ],
)
def test_loopback_is_an_address_and_no_prefix(monkeypatch: pytest.MonkeyPatch, address: str, open_to_all: bool) -> None:
    """Guards an address that only begins like this machine's own."""
    opened = SimpleNamespace(getsockname=lambda: (address, 8321), close=lambda: None)
    monkeypatch.setattr("vlrun.server.server.listen", lambda *_: opened)
    if open_to_all:
        with pytest.raises(ServiceError, match="other machines can reach"):
            ListenOptions().open(keyed=False)
    else:
        ListenOptions().open(keyed=False)
    ListenOptions().open(keyed=True)


def test_a_taken_port_is_told(server: Server) -> None:
    """Guards the second start."""
    second = Server(["--port", str(server.port)])
    assert second.ended() == 12
    assert "cannot listen" in second.log[-1]


def test_anybody_may_come_if_that_is_meant() -> None:
    """Guards the long option: on all addresses, and the Host must still be one of ours."""
    with serving("--host", "0.0.0.0", "--let-anyone-in-without-a-key", "--allow-host", "kiosk.local") as open_one:
        host = f"127.0.0.1:{open_one.port}"
        assert get(open_one, "/v1/models", {"Host": host}).status == 200
        assert get(open_one, "/v1/models", {"Host": f"kiosk.local:{open_one.port}"}).status == 200
        assert get(open_one, "/v1/models", {"Host": f"evil.example:{open_one.port}"}).status == 403


@pytest.mark.fault(44)
def test_log_lines_cannot_be_forged(server: Server) -> None:
    """Guards row 44: line breaks, colours and floods in a path reach the log as letters, cut."""
    before = len(server.log)
    get(server, "/%0d%0a2026-11-22T00:00:00%20info%20ready%20url=http://evil.example%1b[31m")
    get(server, "/" + "x" * 3000)
    until(lambda: len(server.log) >= before + 2)
    lines = server.log[before:]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "\\r\\n2026" in lines[0]
    assert "(3001 characters)" in lines[1]
    assert len(lines[1]) < 500


def test_prompts_are_logged_only_if_asked_for(server: Server) -> None:
    """Guards privacy."""
    assert post(server, asked("A secret word: xyzzy.")).status == 200
    assert not any("xyzzy" in line for line in server.log)
    with serving("--log-prompts") as telling:
        post(telling, asked("A secret word: xyzzy.\nready url=http://evil.example"))
        assert any("xyzzy" in line for line in telling.log)
        assert not any(line.startswith("ready") for line in telling.log)


def test_a_bad_request_is_told_while_the_model_works(server: Server) -> None:
    """Guards against validation behind the queue: what is wrong is said at once."""
    busy = [begin(server, endless()) for _ in range(6)]
    until(lambda: metric(server, "vlrun_requests_waiting") == 2)
    began = time.monotonic()
    assert post(server, shelf(temperature=5)).status == 400
    assert time.monotonic() - began < 1
    for connection in busy:
        connection.close()
    until(lambda: idle(server))


def test_many_at_once_are_all_answered_right(server: Server) -> None:
    """Guards against answers that get mixed up."""
    questions = [("shelf.png", "How many bottles are there?", "6"), ("price_tag.png", "What does it cost?", None)]

    def ask(number: int) -> tuple[int, str]:
        name, question, _ = questions[number % 2]
        return number % 2, post(server, asked(image(EXAMPLES / name), question)).text

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    assert {text for kind, text in answers if kind == 0} == {"6"}
    assert len({text for kind, text in answers if kind == 1}) == 1


@pytest.mark.fault(27)
def test_token_counts_of_those_who_left_take_no_place() -> None:
    """Guards rows 27 and 29: token counts wait in the same queue, and leave it too."""
    with serving("--parallel", "1") as narrow:
        endless_one = begin(narrow, endless(stream=True))
        until(lambda: metric(narrow, "vlrun_engine_running") == 1)
        counting = [begin(narrow, {"prompt": "hi"}, "/v1/tokenize") for _ in range(16)]
        until(lambda: metric(narrow, "vlrun_requests_waiting") == 16)
        assert post(narrow, shelf()).status == 429
        for connection in counting:
            connection.leave()
        until(lambda: metric(narrow, "vlrun_requests_waiting") == 0)
        endless_one.leave()
        until(lambda: idle(narrow))
        received = get(narrow, "/metrics").body.decode()
        assert 'vlrun_requests_total{endpoint="tokenize",outcome="left"} 16.0' in received
        assert 'vlrun_http_answers_total{status="none"} 16.0' in received
        assert 'status="500"' not in received


def test_metrics_tell_what_was_done(server: Server) -> None:
    """Guards the dashboard: each answer is counted, with the tokens that its usage says."""
    before = {name: metric(server, name) for name in ("vlrun_ttft_seconds_count", "vlrun_tokens_total")}
    used = post(server, shelf()).json["usage"]
    assert metric(server, "vlrun_ttft_seconds_count") == before["vlrun_ttft_seconds_count"] + 1
    details = used["prompt_tokens_details"]
    expected = used["total_tokens"] + details["cached_tokens"] + details["image_tokens"]
    assert metric(server, "vlrun_tokens_total") == before["vlrun_tokens_total"] + expected
    hits = metric(server, "vlrun_cache_hits_total")
    assert post(server, shelf()).json["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert metric(server, "vlrun_cache_hits_total") == hits + 1
    assert metric(server, "process_resident_memory_bytes") > 50e6
    assert metric(server, "process_virtual_memory_bytes") > metric(server, "process_resident_memory_bytes")
    assert metric(server, "process_open_fds") > 3
    assert metric(server, "process_cpu_seconds_total") > 0


def test_refusals_before_any_route_are_counted(server: Server) -> None:
    """Guards the dashboard on the day of an attack: rows 25 and 26."""
    before = metric(server, 'vlrun_http_answers_total{status="414"}')
    assert get(server, "/" + "x" * 5000).status == 414
    assert metric(server, 'vlrun_http_answers_total{status="414"}') == before + 1


def test_curl_of_the_docs_and_scripts_of_tutorials(server: Server) -> None:
    """Guards the forms that tutorials promise."""
    boundary = "----tutorial"
    image = (ROOT / "examples" / "shelf.png").read_bytes()
    fields = f'--{boundary}\r\nContent-Disposition: form-data; name="query"\r\n\r\nHow many bottles are there?\r\n'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="s.png"\r\n\r\n'
    body = fields.encode() + head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    chat: Reply = post(server, body, "/api/v1/chat", kind)
    assert chat.json["answer"] == "6"
    assert post(server, body, "/api/v1/analyze", kind).json["text"] == "6"
