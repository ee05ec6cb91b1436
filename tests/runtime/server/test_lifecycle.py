"""The life of the service: what it says of itself while it loads, works, suffers and ends, and what its clients see."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import openvino as ov
import pytest

from tests.runtime.server.faulty_service import BLOCK_SECONDS, DRAIN, STEP, WINDOW
from tests.runtime.server.http_client import (
    Connection,
    Reply,
    chat_request,
    events,
    get,
    is_idle,
    long_request,
    metric,
    new_image,
    post,
    send_request,
    shelf_request,
    wait_until,
)
from tests.runtime.server.notify_socket import (
    WATCHDOG,
    CommandServer,
    NotifyingServer,
    form,
    noise,
    notifying_server,
    ready_server,
)
from tests.runtime.server.running_server import READY, Server, serving
from vlrun.embedded import FOLDER
from vlrun.errors import DeviceError

COMPILE_DELAY = 1.5
"""Seconds by which a model compiles longer."""


@pytest.fixture(scope="module")
def shared() -> Iterator[NotifyingServer]:
    """One service for all faults that heal; it must end well."""
    with ready_server() as one:
        yield one
        assert one.service.stop() == 0
        assert one.listener.times("STOPPING=1")


def healthy(one: NotifyingServer) -> bool:
    """It answers right, says that it is ready, and feeds its watchdog."""
    ready = get(one.service, "/health/ready").json["status"] == "ready"
    return ready and post(one.service, shelf_request()).text == "6" and one.listener.watchdog_fed()


def changed(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A model folder with other contents than it should have, but with their hashes: noticed only when loading."""
    shutil.copytree(FOLDER, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


GARBAGE = b"<net>garbage</net>"
FOREIGN = {f"decoder.{end}": (FOLDER / f"vision.{end}").read_bytes() for end in ("xml", "bin")}


def test_it_says_ready_when_the_model_has_answered_and_not_before() -> None:
    """Guards a start that systemd takes for done, or for too long: more time while it loads, READY afterwards, then
    the watchdog's food, and STOPPING in the end.
    """
    with notifying_server(compile_delay=COMPILE_DELAY) as one:
        assert get(one.service, "/health/ready").json["status"] == "loading"
        assert get(one.service, "/health/live").status == 200
        wait_until(lambda: bool(one.listener.times("EXTEND_TIMEOUT_USEC=30000000")))
        assert not one.listener.times("READY=1")
        one.service.wait_for(READY)
        assert get(one.service, "/health/ready").status == 200
        wait_until(lambda: bool(one.listener.times("READY=1")))
        wait_until(one.listener.watchdog_fed)
        assert one.listener.times("WATCHDOG=1")[0] >= one.listener.times("EXTEND")[-1]
        assert one.service.stop() == 0
        assert one.listener.times("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=30500000") > one.listener.times(
            "READY=1"
        )


@pytest.mark.fault(31)
def test_a_stop_while_it_loads() -> None:
    """Guards row 31 before the model is there: waiting clients are answered in time, and the exit code is 0."""
    with notifying_server(compile_delay=COMPILE_DELAY) as one:
        waiting = send_request(one.service, shelf_request())
        wait_until(lambda: metric(one.service, "vlrun_answers_running") == 1)
        one.service.process.send_signal(signal.SIGTERM)
        assert Reply(waiting.getresponse()).status == 503  # compiling takes longer than draining does
        assert one.service.wait_for_exit() == 0
        assert not one.listener.times("READY=1")


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/tokenize", {"prompt": "hi"}), ("/v1/chat/completions", shelf_request())]
)
def test_whoever_waits_for_a_model_does_not_keep_the_process(path: str, body: object) -> None:
    """Guards row 36: a request that waits hears that nothing will come, and the process ends with its exit code."""
    with notifying_server(compile_delay=COMPILE_DELAY, refuse_model=True) as one:
        waiting, leaving = send_request(one.service, body, path), send_request(one.service, body, path)
        leaving.disconnect()
        assert Reply(waiting.getresponse()).status == 503
        assert one.service.wait_for_exit() == DeviceError.exit_code


@pytest.mark.fault(27)
@pytest.mark.parametrize("what", ["slow", "slow vision"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_token(shared: NotifyingServer, fault: str, stream: bool) -> None:
    """Guards row 27: neither an image nor a prompt is computed to its end for nobody."""
    with shared.injected(fault):
        connection = send_request(shared.service, chat_request(new_image(), "How many?", stream=stream))
        wait_until(lambda: metric(shared.service, "vlrun_engine_running") == 1)
        time.sleep(STEP / 4)
        connection.disconnect()
        assert wait_until(lambda: is_idle(shared.service)) < STEP / 2
    assert healthy(shared)


@pytest.mark.fault(36)
@pytest.mark.parametrize("contents", [{"decoder.xml": GARBAGE}, {"vision.xml": GARBAGE}, FOREIGN])
def test_a_model_that_cannot_be_loaded_ends_the_process(contents: Mapping[str, bytes], tmp_path: Path) -> None:
    """Guards row 36 in the background: one sentence and exit code 4, no service that waits for ever."""
    server = Server(["--model", str(changed(tmp_path / "model", contents))])
    assert server.wait_for_exit() == 4
    assert server.log[-1].startswith("vlrun: ")
    assert next(iter(contents)) in server.log[-1]
    assert not any("Traceback" in line or " ready" in line for line in server.log)


@pytest.mark.parametrize(
    ("refused", "code", "sentence"), [(False, 4, "vision.xml"), (True, 6, "CPU refuses the model")]
)
def test_who_waits_for_a_model_that_cannot_be_loaded(refused: bool, code: int, sentence: str, tmp_path: Path) -> None:
    """Guards the first clients of a damaged model: 503, whole or as a stream, and not that their request is wrong."""
    model = FOLDER if refused else changed(tmp_path / "model", {"vision.xml": GARBAGE})
    with notifying_server(model, COMPILE_DELAY, refused) as one:
        waiting = [send_request(one.service, shelf_request(stream=stream)) for stream in (False, True)]
        wait_until(lambda: metric(one.service, "vlrun_answers_running") == 2)
        replies = [Reply(connection.getresponse()) for connection in waiting]
        assert one.service.wait_for_exit() == code
        assert sentence in one.service.log[-1]
        assert not one.listener.times("READY=1")
        assert [reply.status for reply in replies] == [503, 503]


@pytest.mark.fault(33)
@pytest.mark.parametrize("part", ["decoder", "vision"])
def test_a_device_that_hangs(part: str) -> None:
    """Guards row 33: ready turns 503, the watchdog starves, and not even an end by SIGTERM takes long."""
    with ready_server() as one:
        wait_until(lambda: healthy(one))
        one.service.send_command(f"hang {part}")
        hanging = send_request(one.service, chat_request(new_image(), "What is it?"))
        wait_until(lambda: get(one.service, "/health/ready").status == 503)
        assert get(one.service, "/health/ready").json["status"] == "stuck"
        assert get(one.service, "/health/live").status == 200
        wait_until(lambda: not one.listener.watchdog_fed())
        fed = len(one.listener.times("WATCHDOG=1"))
        time.sleep(WATCHDOG)
        assert len(one.listener.times("WATCHDOG=1")) == fed
        began = time.monotonic()
        one.service.process.send_signal(signal.SIGTERM)
        assert Reply(hanging.getresponse()).status == 503
        assert one.service.wait_for_exit() == 6
        assert time.monotonic() - began < 10 * DRAIN
        assert "the device does not stop" in one.service.log[-1]


@pytest.mark.fault(33)
def test_a_device_that_fails(shared: NotifyingServer) -> None:
    """Guards row 33 and the error's text: those who are being answered get 500 without the driver's words, the next
    request is answered.
    """
    with shared.injected("raise"):
        refused = post(shared.service, shelf_request())
        assert refused.status == 500
        assert refused.json["error"] == {
            "message": "the model failed on this request",
            "type": "server_error",
            "param": None,
            "code": "model_failed",
        }
        received = list(events(send_request(shared.service, chat_request("Hello", stream=True)).getresponse()))
        assert "cl" not in "".join(received).replace("include", "")
    wait_until(lambda: healthy(shared))
    assert not any("clWaitForEvents" in line or "Traceback" in line for line in shared.service.log)


@pytest.mark.fault(33)
def test_an_event_loop_that_is_blocked(shared: NotifyingServer) -> None:
    """Guards row 33 on the other side: an engine that is well is of no use when nobody can reach it."""
    began = time.monotonic()
    shared.service.send_command("block")
    time.sleep(BLOCK_SECONDS / 2)
    assert get(shared.service, "/health/live").status == 200
    assert shared.listener.longest_pause(began) > BLOCK_SECONDS * 0.9
    wait_until(lambda: healthy(shared))


@pytest.mark.fault(43)
def test_a_throttled_processor_is_no_hang(shared: NotifyingServer) -> None:
    """Guards row 43: at 30 % of the processor, with steps of several windows, the watchdog is fed all the time."""
    with shared.injected("slow"), throttled(shared.service.process.pid, 0.3):
        began = time.monotonic()
        answer = post(shared.service, chat_request("Hello", max_tokens=2))
        assert answer.status == 200
        assert time.monotonic() - began > STEP > WATCHDOG > WINDOW
        assert get(shared.service, "/health/ready").status == 200
        assert shared.listener.longest_pause(began) < WATCHDOG
    wait_until(lambda: healthy(shared))


@contextmanager
def throttled(process: int, share: float) -> Iterator[None]:
    """Let a process run for that share of each tenth of a second, as CPUQuota= does."""
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.wait(0.1 * share):
            os.kill(process, signal.SIGSTOP)
            over.wait(0.1 * (1 - share))
            os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.fault(42)
def test_a_clock_that_jumps(shared: NotifyingServer) -> None:
    """Guards row 42: with a wall clock that jumps by two days at each look, deadlines, streams, idle connections,
    metrics and the watchdog do as before.
    """
    names = ("vlrun_request_seconds_sum", "vlrun_queue_seconds_sum", "vlrun_ttft_seconds_sum")
    before = [metric(shared.service, name) for name in names]
    with shared.injected("clock"):
        began = time.monotonic()
        connection = Connection("127.0.0.1", shared.service.port, timeout=20)
        for _ in range(3):
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(shelf_request()), {"Content-Type": "application/json"}
            )
            assert Reply(connection.getresponse()).text == "6"
        received = list(events(send_request(shared.service, long_request(stream=True, max_tokens=100)).getresponse()))
        assert received[-1] == "[DONE]"
        time.sleep(WATCHDOG)
        assert shared.listener.longest_pause(began) < WATCHDOG
        passed = time.monotonic() - began
    after = [metric(shared.service, name) for name in names]
    assert all(0 < now - then < 4 * passed for then, now in zip(before, after, strict=True))
    wait_until(lambda: healthy(shared))


@pytest.mark.fault(42)
def test_no_file_can_be_written() -> None:
    """Guards row 42 without a namespace: no home, no folder for caches or temporary files, and no file that may grow.
    A form with an image of 5 MB is answered.
    """
    folders = ["-u", "HOME", "TMPDIR=/proc/nowhere", "XDG_CACHE_HOME=/proc/nowhere"]
    serve = [sys.executable, "-m", "vlrun.cli", "serve", "--port", "0"]
    poor = CommandServer(["env", *folders, "sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *serve])
    try:
        poor.url = poor.wait_for(READY)[1]
        reply = post(poor, *form(noise(), "Hello"))
        assert (reply.status, bool(reply.json["answer"])) == (200, True)
        assert post(poor, shelf_request()).text == "6"
        assert poor.stop() == 0
        assert not any("Traceback" in line or "error=" in line for line in poor.log)
    finally:
        poor.kill()


@pytest.mark.fault(41)
def test_without_a_gpu_the_processor_answers_and_says_so() -> None:
    """Guards row 41: ``--device auto`` where there is none; log and /health/ready tell why."""
    if any(name.startswith("GPU") for name in ov.Core().available_devices):
        pytest.skip("there is a GPU here")
    with serving("--device", "auto") as server:
        assert post(server, shelf_request()).text == "6"
        (note,) = get(server, "/health/ready").json["notes"]
        assert note.startswith("device AUTO: the CPU answers")
        assert any(READY.search(line) and note in line for line in server.log)
