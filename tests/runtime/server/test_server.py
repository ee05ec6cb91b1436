"""A real service on the embedded model: correct answers, and every way a request or the service ends."""

from __future__ import annotations

import gzip
import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import vlrun
from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error
from tests.runtime.server.http_client import (
    chat_request,
    events,
    get,
    image,
    is_idle,
    long_request,
    metric,
    new_image,
    post,
    send_request,
    shelf_request,
    wait_until,
)
from tests.runtime.server.running_server import READY, Server, serving
from vlrun.cli.serve import ListenOptions
from vlrun.errors import ServiceError
from vlrun.tasks.definition import built_in_tasks


def test_readiness_reports_model_device_and_queue(server: Server) -> None:
    ready = get(server, "/health/ready")
    assert ready.status == 200
    assert ready.json["ready"]
    assert (ready.json["model"], ready.json["device"]) == ("vlrun-tiny", "CPU")
    assert ready.json["queue"] == {"running": 0, "waiting": 0, "limit": 16}
    assert (ready.json["version"], ready.json["context"], ready.json["thinks"]) == (vlrun.__version__, 4096, False)
    assert 10**7 < ready.json["memory"]["resident_bytes"] < 10**10
    assert ready.json["memory"]["available_bytes"] > 0
    assert ready.json["inputs"][:5] == ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"]
    limits = {"body_bytes": 15 * 2**20, "images": 16, "image_pixels": 50_000_000}
    assert ready.json["limits"] == {**limits, "task_names": 100, "task_name_length": 100}
    assert get(server, "/health/live").json == get(server, "/health").json == {"status": "ok"}


def test_tasks_are_listed_with_what_they_need(server: Server) -> None:
    reply = get(server, "/v1/tasks").json
    tasks = {task["id"]: task for task in reply["data"]}
    assert reply["object"] == "list"
    assert list(tasks) == list(built_in_tasks())
    assert tasks["count"] == {
        "id": "count",
        "object": "task",
        "about": "count items by kind, as JSON",
        "items": "optional",
        "fields": "none",
        "images": 1,
        "structured": True,
        "merge": "sum",
    }
    assert (tasks["fields"]["fields"], tasks["ocr"]["structured"]) == ("required", False)


def test_every_path_leads_on(server: Server) -> None:
    """``/`` was a 404, a wrong base URL was not explained, and curl got compressed pages."""
    assert f"{server.url}/docs" in get(server, "/").body.decode()
    for path, meant in (
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/models", "/v1/models"),
        ("/doc", "/docs"),
    ):
        reply = post(server, {}, path) if "chat" in path else get(server, path)
        assert f"did you mean {meant}" in assert_error(reply, 404, "not_found")
    assert "/docs lists all paths" in assert_error(get(server, "/nowhere"), 404, "not_found")
    plain, packed = get(server, "/docs"), get(server, "/docs", {"Accept-Encoding": "gzip"})
    assert plain.body.startswith(b"<!doctype html>")
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.fault(27)
@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnected_client_frees_its_slot(server: Server, stream: bool) -> None:
    """Row 27: after a disconnect, streaming or not, no further step is computed."""
    connection = send_request(server, long_request(stream=stream))
    wait_until(lambda: metric(server, "vlrun_engine_running") == 1)
    if stream:
        response = connection.getresponse()
        assert response.read(100)
    before = metric(server, "vlrun_requests_total")
    connection.disconnect()
    assert wait_until(lambda: is_idle(server)) < 1.0, "generation continued"
    wait_until(lambda: metric(server, "vlrun_requests_total") == before + 1)
    assert post(server, shelf_request()).text == "6"


def test_stream_format(server: Server) -> None:
    """Content type, no proxy buffering, progress as comments, [DONE] at the end."""
    response = send_request(server, shelf_request(stream=True, stream_options={"include_usage": True})).getresponse()
    assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert response.getheader("x-accel-buffering") == "no"
    received = list(events(response))
    data = [line for line in received if not line.startswith(":")]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(line) for line in data[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "6"
    assert chunks[-1]["usage"]["completion_tokens"] >= 1


def test_progress_keeps_a_stream_alive(server: Server) -> None:
    """Comments during vision and prefill, before any text, keep proxies from timing out."""
    request = chat_request(new_image(), new_image(), "word " * 500, stream=True, max_tokens=1)
    received = list(events(send_request(server, request).getresponse()))
    comments = [re.fullmatch(r": (vision|prefill) (\d+) %", line) for line in received if line.startswith(":")]
    progress = [(match[1], int(match[2])) for match in comments if match]
    assert {phase for phase, _ in progress} == {"vision", "prefill"}
    assert progress == sorted(progress, key=lambda one: (one[0] == "prefill", one[1]))


def test_tokenize_counts_like_the_answer(server: Server) -> None:
    request = shelf_request()
    used = post(server, request).json["usage"]
    counted = post(server, {"messages": request["messages"]}, "/v1/tokenize").json
    assert counted["count"] == used["prompt_tokens"]
    assert counted["image_tokens"] == used["prompt_tokens_details"]["image_tokens"]
    assert counted["context"] == 4096
    assert counted["remaining"] == 4096 - counted["count"]
    assert post(server, {"prompt": "Hello <|im_start|>"}, "/v1/tokenize").json["count"] > 2


def test_the_model_tells_its_context(server: Server) -> None:
    """Clients of vLLM read ``max_model_len``."""
    found = get(server, "/v1/models/vlrun-tiny").json
    assert found["context"] == found["max_model_len"] == 4096
    assert get(server, "/v1/models").json["data"] == [found]


def test_unknown_paths_and_methods(server: Server) -> None:
    """404 and 405 have the shape of all errors, not the framework's text."""
    assert get(server, "/v1/nothing").json["error"]["code"] == "not_found"
    wrong = get(server, "/v1/chat/completions")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert get(server, "/v1/models/no/such").json["error"]["code"] == "model_not_found"


@pytest.mark.fault(29)
def test_a_full_queue_gets_429_with_a_retry_time() -> None:
    """Row 29."""
    with serving("--parallel", "1", "--queue", "1") as small:
        busy = [send_request(small, long_request()) for _ in range(2)]
        wait_until(lambda: metric(small, "vlrun_requests_waiting") == 1)
        refused = post(small, shelf_request())
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
        wait_until(lambda: is_idle(small))
        assert post(small, shelf_request()).text == "6"


@pytest.mark.fault(30)
def test_a_request_over_its_deadline_fails() -> None:
    """Row 30: status 504 or the last event of the stream; the slot is free afterwards."""
    with serving("--deadline", "1") as short_deadline:
        late = post(short_deadline, long_request(n=4))
        assert late.status == 504
        assert late.json["error"]["code"] == "deadline_exceeded"
        received = [
            line
            for line in events(send_request(short_deadline, long_request(n=4, stream=True)).getresponse())
            if line[0] != ":"
        ]
        assert json.loads(received[-1])["error"]["code"] == "deadline_exceeded"
        assert len(received) > 10
        wait_until(lambda: is_idle(short_deadline))
        assert post(short_deadline, shelf_request()).text == "6"


@pytest.mark.fault(31)
def test_stopping_lets_running_answers_end() -> None:
    """Row 31: a stream continues to [DONE], new requests get 503, and the exit code is 0."""
    with serving("--drain", "120") as stopping:  # a busy machine may need more than the default
        response = send_request(stopping, long_request(stream=True, max_tokens=2000)).getresponse()
        response.read(50)
        stopping.process.send_signal(signal.SIGTERM)
        stopping.wait_for(re.compile("stopping"))
        refused = post(stopping, shelf_request())
        assert refused.status == 503
        assert refused.json["error"]["code"] == "stopping"
        assert refused.headers["retry-after"] == "5"
        assert get(stopping, "/health/ready").json["status"] == "stopping"
        assert (get(stopping, "/health").status, get(stopping, "/health").json) == (503, {"status": "stopping"})
        assert get(stopping, "/health/live").status == 200
        assert list(events(response))[-1] == "[DONE]"
        assert stopping.process.wait(10) == 0


@pytest.mark.fault(31)
def test_stopping_cancels_requests_after_the_drain_time() -> None:
    """Row 31: the stream ends with an error event."""
    with serving("--drain", "0.5") as stopping:
        response = send_request(stopping, long_request(stream=True, n=4)).getresponse()
        response.read(50)
        stopping.process.send_signal(signal.SIGTERM)
        received = [line for line in events(response) if not line.startswith(":")]
        assert json.loads(received[-1])["error"]["code"] == "stopping"
        assert stopping.process.wait(10) == 0


@pytest.mark.fault(31)
def test_a_second_signal_ends_at_once() -> None:
    server = Server([])
    server.url = server.wait_for(READY)[1]
    _busy = send_request(server, long_request(n=4))
    wait_until(lambda: metric(server, "vlrun_engine_running") == 4)
    server.process.send_signal(signal.SIGINT)
    server.wait_for(re.compile("stopping"))
    began = time.monotonic()
    assert server.stop(signal.SIGINT) == 130
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--host", "0.0.0.0"), "other machines can reach"),
        (("--host", "no-such-name.invalid"), "cannot listen on no-such-name.invalid"),
        (("--api-key-file", "no/such/file"), "cannot be used"),
        (("--model", "no/such/model"), "no/such/model"),
        (("--systemd",), "expects one socket from systemd"),
    ],
)
def test_unsafe_or_wrong_options_end_the_start(options: tuple[str, ...], sentence: str) -> None:
    """Guards against an unprotected port, a stack trace, and a service that only seems to run."""
    server = Server(options)
    code = server.wait_for_exit()
    assert code == (4 if "--model" in options else 12)
    assert len([line for line in server.log if line.startswith("vlrun: ")]) <= 2
    assert sentence in server.log[-1]
    assert not any("Traceback" in line for line in server.log)


@pytest.mark.parametrize(
    ("address", "reachable"),
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
def test_loopback_is_an_address_not_a_prefix(monkeypatch: pytest.MonkeyPatch, address: str, reachable: bool) -> None:
    """``::1234`` only begins like ``::1``."""
    opened = SimpleNamespace(getsockname=lambda: (address, 8321), close=lambda: None)
    monkeypatch.setattr("vlrun.server.server.listen", lambda *_: opened)
    if reachable:
        with pytest.raises(ServiceError, match="other machines can reach"):
            ListenOptions().open(keyed=False)
    else:
        ListenOptions().open(keyed=False)
    ListenOptions().open(keyed=True)


def test_a_port_in_use_is_an_error(server: Server) -> None:
    second = Server(["--port", str(server.port)])
    assert second.wait_for_exit() == 12
    assert "cannot listen" in second.log[-1]


def test_an_open_service_still_checks_the_host() -> None:
    with serving("--host", "0.0.0.0", "--let-anyone-in-without-a-key", "--allow-host", "kiosk.local") as public:
        host = f"127.0.0.1:{public.port}"
        assert get(public, "/v1/models", {"Host": host}).status == 200
        assert get(public, "/v1/models", {"Host": f"kiosk.local:{public.port}"}).status == 200
        assert get(public, "/v1/models", {"Host": f"evil.example:{public.port}"}).status == 403


def test_prompts_are_logged_only_with_the_option(server: Server) -> None:
    assert post(server, chat_request("A secret word: xyzzy.")).status == 200
    assert not any("xyzzy" in line for line in server.log)
    with serving("--log-prompts") as logging:
        post(logging, chat_request("A secret word: xyzzy.\nready url=http://evil.example"))
        assert any("xyzzy" in line for line in logging.log)
        assert not any(line.startswith("ready") for line in logging.log)


def test_an_invalid_request_does_not_wait_for_the_queue(server: Server) -> None:
    busy = [send_request(server, long_request()) for _ in range(6)]
    wait_until(lambda: metric(server, "vlrun_requests_waiting") == 2)
    began = time.monotonic()
    assert post(server, shelf_request(temperature=5)).status == 400
    assert time.monotonic() - began < 1
    for connection in busy:
        connection.close()
    wait_until(lambda: is_idle(server))


def test_concurrent_answers_do_not_mix(server: Server) -> None:
    questions = [("shelf.png", "How many bottles are there?", "6"), ("price_tag.png", "What does it cost?", None)]

    def ask(number: int) -> tuple[int, str]:
        name, question, _ = questions[number % 2]
        return number % 2, post(server, chat_request(image(EXAMPLES / name), question)).text

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    assert {text for kind, text in answers if kind == 0} == {"6"}
    assert len({text for kind, text in answers if kind == 1}) == 1


@pytest.mark.fault(27)
def test_token_counts_of_disconnected_clients_leave_the_queue() -> None:
    """Rows 27 and 29: token counts wait in the same queue."""
    with serving("--parallel", "1") as single:
        running = send_request(single, long_request(stream=True))
        wait_until(lambda: metric(single, "vlrun_engine_running") == 1)
        counting = [send_request(single, {"prompt": "hi"}, "/v1/tokenize") for _ in range(16)]
        wait_until(lambda: metric(single, "vlrun_requests_waiting") == 16)
        assert post(single, shelf_request()).status == 429
        for connection in counting:
            connection.disconnect()
        wait_until(lambda: metric(single, "vlrun_requests_waiting") == 0)
        running.disconnect()
        wait_until(lambda: is_idle(single))
        received = get(single, "/metrics").body.decode()
        assert 'vlrun_requests_total{endpoint="tokenize",outcome="left"} 16.0' in received
        assert 'vlrun_http_answers_total{status="none"} 16.0' in received
        assert 'status="500"' not in received


def test_metrics_count_answers_and_tokens(server: Server) -> None:
    """The token counters match the usage of the answer."""
    before = {name: metric(server, name) for name in ("vlrun_ttft_seconds_count", "vlrun_tokens_total")}
    used = post(server, shelf_request()).json["usage"]
    assert metric(server, "vlrun_ttft_seconds_count") == before["vlrun_ttft_seconds_count"] + 1
    details = used["prompt_tokens_details"]
    expected = used["total_tokens"] + details["cached_tokens"] + details["image_tokens"]
    assert metric(server, "vlrun_tokens_total") == before["vlrun_tokens_total"] + expected
    hits = metric(server, "vlrun_cache_hits_total")
    assert post(server, shelf_request()).json["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert metric(server, "vlrun_cache_hits_total") == hits + 1
    assert metric(server, "process_resident_memory_bytes") > 50e6
    assert metric(server, "process_virtual_memory_bytes") > metric(server, "process_resident_memory_bytes")
    assert metric(server, "process_open_fds") > 3
    assert metric(server, "process_cpu_seconds_total") > 0


def test_errors_before_routing_are_counted(server: Server) -> None:
    """Rows 25 and 26: an attack must show in the metrics."""
    before = metric(server, 'vlrun_http_answers_total{status="414"}')
    assert get(server, "/" + "x" * 5000).status == 414
    assert metric(server, 'vlrun_http_answers_total{status="414"}') == before + 1
