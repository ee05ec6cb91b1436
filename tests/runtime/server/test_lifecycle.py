"""Loading, readiness, watchdog, faults and shutdown of the service, as systemd and clients see them."""

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
"""Seconds added to compiling."""


@pytest.fixture(scope="module")
def recovering() -> Iterator[NotifyingServer]:
    """One service for all faults that it recovers from; it must stop with exit code 0."""
    with ready_server() as running:
        yield running
        assert running.service.stop() == 0
        assert running.listener.times("STOPPING=1")


def healthy(running: NotifyingServer) -> bool:
    """Whether it answers correctly, is ready, and notifies the watchdog."""
    ready = get(running.service, "/health/ready").json["status"] == "ready"
    return ready and post(running.service, shelf_request()).text == "6" and running.listener.watchdog_fed()


def modified_model(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A model folder with wrong contents but matching hashes, so that only loading fails."""
    shutil.copytree(FOLDER, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


GARBAGE = b"<net>garbage</net>"
WRONG_MODEL = {f"decoder.{end}": (FOLDER / f"vision.{end}").read_bytes() for end in ("xml", "bin")}


def test_systemd_notifications_from_start_to_stop() -> None:
    """EXTEND_TIMEOUT while the model loads, READY after its first answer, then WATCHDOG, and STOPPING at the end."""
    with notifying_server(compile_delay=COMPILE_DELAY) as running:
        assert get(running.service, "/health/ready").json["status"] == "loading"
        assert get(running.service, "/health").status == 503
        assert get(running.service, "/health/live").status == 200
        wait_until(lambda: bool(running.listener.times("EXTEND_TIMEOUT_USEC=30000000")))
        assert not running.listener.times("READY=1")
        running.service.wait_for(READY)
        assert get(running.service, "/health/ready").status == 200
        wait_until(lambda: bool(running.listener.times("READY=1")))
        wait_until(running.listener.watchdog_fed)
        assert running.listener.times("WATCHDOG=1")[0] >= running.listener.times("EXTEND")[-1]
        assert running.service.stop() == 0
        assert running.listener.times(
            "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=30500000"
        ) > running.listener.times("READY=1")


@pytest.mark.fault(31)
def test_a_stop_while_loading() -> None:
    """Row 31: waiting clients get 503 in time, and the exit code is 0."""
    with notifying_server(compile_delay=COMPILE_DELAY) as running:
        waiting = send_request(running.service, shelf_request())
        wait_until(lambda: metric(running.service, "vlrun_answers_running") == 1)
        running.service.process.send_signal(signal.SIGTERM)
        assert Reply(waiting.getresponse()).status == 503  # compiling takes longer than draining
        assert running.service.wait_for_exit() == 0
        assert not running.listener.times("READY=1")


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/tokenize", {"prompt": "hi"}), ("/v1/chat/completions", shelf_request())]
)
def test_waiting_requests_do_not_keep_a_failed_process_alive(path: str, body: object) -> None:
    """Row 36: requests that wait for the model get 503, and the process ends with its exit code."""
    with notifying_server(compile_delay=COMPILE_DELAY, refuse_model=True) as running:
        waiting, leaving = send_request(running.service, body, path), send_request(running.service, body, path)
        leaving.disconnect()
        assert Reply(waiting.getresponse()).status == 503
        assert running.service.wait_for_exit() == DeviceError.exit_code


@pytest.mark.fault(27)
@pytest.mark.parametrize("fault", ["slow", "slow vision"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_before_the_first_token_cancels_the_request(
    recovering: NotifyingServer, fault: str, stream: bool
) -> None:
    """Row 27: neither encoding nor prefill continues without a client."""
    with recovering.injected(fault):
        connection = send_request(recovering.service, chat_request(new_image(), "How many?", stream=stream))
        wait_until(lambda: metric(recovering.service, "vlrun_engine_running") == 1)
        time.sleep(STEP / 4)
        connection.disconnect()
        assert wait_until(lambda: is_idle(recovering.service)) < STEP / 2
    assert healthy(recovering)


@pytest.mark.fault(36)
@pytest.mark.parametrize("contents", [{"decoder.xml": GARBAGE}, {"vision.xml": GARBAGE}, WRONG_MODEL])
def test_a_model_that_cannot_be_loaded_ends_the_process(contents: Mapping[str, bytes], tmp_path: Path) -> None:
    """Row 36: one sentence and exit code 4, though the model loads in the background."""
    server = Server(["--model", str(modified_model(tmp_path / "model", contents))])
    assert server.wait_for_exit() == 4
    assert server.log[-1].startswith("vlrun: ")
    assert next(iter(contents)) in server.log[-1]
    assert not any("Traceback" in line or " ready" in line for line in server.log)


@pytest.mark.parametrize(
    ("refused", "code", "sentence"), [(False, 4, "vision.xml"), (True, 6, "CPU refuses the model")]
)
def test_requests_get_503_if_the_model_cannot_be_loaded(
    refused: bool, code: int, sentence: str, tmp_path: Path
) -> None:
    """Whole or streamed, and not 400 as if the request were wrong."""
    model = FOLDER if refused else modified_model(tmp_path / "model", {"vision.xml": GARBAGE})
    with notifying_server(model, COMPILE_DELAY, refused) as running:
        waiting = [send_request(running.service, shelf_request(stream=stream)) for stream in (False, True)]
        wait_until(lambda: metric(running.service, "vlrun_answers_running") == 2)
        replies = [Reply(connection.getresponse()) for connection in waiting]
        assert running.service.wait_for_exit() == code
        assert sentence in running.service.log[-1]
        assert not running.listener.times("READY=1")
        whole, stream = replies
        assert whole.status == 503
        assert stream.status in (503, 200)  # 200 if loading takes so long that the stream has begun
        assert all(b'"code": "stopping"' in reply.body for reply in replies)


@pytest.mark.fault(33)
@pytest.mark.parametrize("part", ["decoder", "vision"])
def test_a_device_that_hangs(part: str) -> None:
    """Row 33: readiness turns 503, watchdog notifications stop, and SIGTERM still ends the process soon."""
    with ready_server() as running:
        wait_until(lambda: healthy(running))
        running.service.send_command(f"hang {part}")
        hanging = send_request(running.service, chat_request(new_image(), "What is it?"))
        wait_until(lambda: get(running.service, "/health/ready").status == 503)
        assert get(running.service, "/health/ready").json["status"] == "stuck"
        assert get(running.service, "/health/live").status == 200
        wait_until(lambda: not running.listener.watchdog_fed())
        fed = len(running.listener.times("WATCHDOG=1"))
        time.sleep(WATCHDOG)
        assert len(running.listener.times("WATCHDOG=1")) == fed
        began = time.monotonic()
        running.service.process.send_signal(signal.SIGTERM)
        assert Reply(hanging.getresponse()).status == 503
        assert running.service.wait_for_exit() == 6
        assert time.monotonic() - began < 10 * DRAIN
        assert "the device does not stop" in running.service.log[-1]


@pytest.mark.fault(33)
def test_a_device_that_fails(recovering: NotifyingServer) -> None:
    """Row 33: running requests get 500 without the driver's text; the next request is answered."""
    with recovering.injected("raise"):
        refused = post(recovering.service, shelf_request())
        assert refused.status == 500
        assert refused.json["error"] == {
            "message": "the model failed on this request",
            "type": "server_error",
            "param": None,
            "code": "model_failed",
        }
        received = list(events(send_request(recovering.service, chat_request("Hello", stream=True)).getresponse()))
        assert "cl" not in "".join(received).replace("include", "")
    wait_until(lambda: healthy(recovering))
    assert not any("clWaitForEvents" in line or "Traceback" in line for line in recovering.service.log)


@pytest.mark.fault(33)
def test_an_event_loop_that_is_blocked(recovering: NotifyingServer) -> None:
    """Row 33: no watchdog notifications while requests cannot reach a healthy engine."""
    began = time.monotonic()
    recovering.service.send_command("block")
    time.sleep(BLOCK_SECONDS / 2)
    assert get(recovering.service, "/health/live").status == 200
    assert recovering.listener.longest_pause(began) > BLOCK_SECONDS * 0.9
    wait_until(lambda: healthy(recovering))


@pytest.mark.fault(43)
def test_a_throttled_cpu_is_not_a_hang(recovering: NotifyingServer) -> None:
    """Row 43: at 30 % of the CPU, with steps of several windows, watchdog notifications continue."""
    with recovering.injected("slow"), throttled(recovering.service.process.pid, 0.3):
        began = time.monotonic()
        answer = post(recovering.service, chat_request("Hello", max_tokens=2))
        assert answer.status == 200
        assert time.monotonic() - began > STEP > WATCHDOG > WINDOW
        assert get(recovering.service, "/health/ready").status == 200
        assert recovering.listener.longest_pause(began) < WATCHDOG
    wait_until(lambda: healthy(recovering))


@contextmanager
def throttled(process: int, share: float) -> Iterator[None]:
    """Let a process run for a share of each tenth of a second, as CPUQuota= does."""
    finished = threading.Event()

    def stop_and_go() -> None:
        while not finished.wait(0.1 * share):
            os.kill(process, signal.SIGSTOP)
            finished.wait(0.1 * (1 - share))
            os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


@pytest.mark.fault(42)
def test_a_wall_clock_that_jumps_changes_nothing(recovering: NotifyingServer) -> None:
    """Row 42: deadlines, streams, idle connections, metrics and the watchdog use the monotonic clock."""
    names = ("vlrun_request_seconds_sum", "vlrun_queue_seconds_sum", "vlrun_ttft_seconds_sum")
    before = [metric(recovering.service, name) for name in names]
    with recovering.injected("clock"):
        began = time.monotonic()
        connection = Connection("127.0.0.1", recovering.service.port, timeout=20)
        for _ in range(3):
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(shelf_request()), {"Content-Type": "application/json"}
            )
            assert Reply(connection.getresponse()).text == "6"
        received = list(
            events(send_request(recovering.service, long_request(stream=True, max_tokens=100)).getresponse())
        )
        assert received[-1] == "[DONE]"
        time.sleep(WATCHDOG)
        assert recovering.listener.longest_pause(began) < WATCHDOG
        passed = time.monotonic() - began
    after = [metric(recovering.service, name) for name in names]
    assert all(0 < now - then < 4 * passed for then, now in zip(before, after, strict=True))
    wait_until(lambda: healthy(recovering))


@pytest.mark.fault(42)
def test_it_answers_when_no_file_can_be_written() -> None:
    """Row 42 without a namespace: no home, no cache, no temporary files. A form with a 5 MB image is answered."""
    folders = ["-u", "HOME", "TMPDIR=/proc/nowhere", "XDG_CACHE_HOME=/proc/nowhere"]
    serve = [sys.executable, "-m", "vlrun.cli", "serve", "--port", "0"]
    server = CommandServer(["env", *folders, "sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *serve])
    try:
        server.url = server.wait_for(READY)[1]
        reply = post(server, *form(noise(), "Hello"))
        assert (reply.status, bool(reply.json["answer"])) == (200, True)
        assert post(server, shelf_request()).text == "6"
        assert server.stop() == 0
        assert not any("Traceback" in line or "error=" in line for line in server.log)
    finally:
        server.kill()


@pytest.mark.fault(41)
def test_without_a_gpu_the_cpu_answers_with_a_note() -> None:
    """Row 41: ``--device auto`` without a GPU; the log and /health/ready have the note."""
    if any(name.startswith("GPU") for name in ov.Core().available_devices):
        pytest.skip("this machine has a GPU")
    with serving("--device", "auto") as server:
        assert post(server, shelf_request()).text == "6"
        (note,) = get(server, "/health/ready").json["notes"]
        assert note.startswith("device AUTO: using the CPU, because ")
        assert any(READY.search(line) and note in line for line in server.log)
