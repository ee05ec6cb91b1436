"""The units under a real systemd, socket activation, and the start notifications."""

from __future__ import annotations

import asyncio
import http.client
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from PIL import Image

from tests.runtime.server import systemd_container
from tests.runtime.server.http_client import (
    Reply,
    chat_request,
    data_url,
    events,
    get,
    long_request,
    metric,
    post,
    send_request,
    shelf_request,
    wait_until,
)
from tests.runtime.server.notify_socket import CommandServer, NotifyListener, form, noise
from tests.runtime.server.systemd_container import SystemdContainer
from vlrun.server import systemd
from vlrun.server.systemd import SystemdNotifier

UNITS = systemd_container.UNITS
RISKY = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]{3}$"}}, "required": ["a"]}
"""A schema that is compiled in a separate process first."""

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
needs_activate = pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the path of an existing program."""
    for name in ("vlrun.socket", "vlrun.service"):
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/vlrun/bin/vlrun", sys.executable))
    return tmp_path


def _analyze(units: Path, *arguments: str) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], cwd=units, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_analyze
@pytest.mark.parametrize("gpu", [False, True])
def test_the_units_are_valid_and_sandboxed(units: Path, gpu: bool) -> None:
    """No unknown setting, and an exposure level of at most 0.2 of 10; 0.4 with GPU."""
    if gpu:
        shutil.copytree(UNITS / "vlrun.service.d", units / "vlrun.service.d")
    assert not _analyze(units, "verify", "./vlrun.service", "./vlrun.socket")
    output = _analyze(units, "security", "--offline=yes", f"--threshold={4 if gpu else 2}", "./vlrun.service")
    assert "Overall exposure level" in output


def test_the_start_timeout_is_extended_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that hangs is left to systemd in the end. A long watchdog interval must not delay the extensions."""
    monkeypatch.setattr(systemd, "EXTEND_SECONDS", 0.3)
    monkeypatch.setattr(systemd, "MAX_START_SECONDS", 0.5)
    listener = NotifyListener(f"@vlrun-test-{os.getpid()}-start")

    async def load_for_ever() -> None:
        watching = asyncio.ensure_future(
            SystemdNotifier(listener.address, "90000000").watch(lambda: True, lambda: False)
        )
        await asyncio.sleep(1.2)
        watching.cancel()

    asyncio.run(load_for_ever())
    wait_until(lambda: len(listener.times("EXTEND_TIMEOUT_USEC")) > 3)
    listener.close()
    moments = listener.times("EXTEND_TIMEOUT_USEC")
    assert moments[-1] - moments[0] < 0.6
    assert max(after - before for before, after in itertools.pairwise(moments)) < 0.3


PASS_DESCRIPTOR = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Passes a descriptor as systemd does."""
SERVE = [sys.executable, "-m", "vlrun.cli", "serve", "--systemd", "--kv-disk", "0"]


@needs_activate
def test_socket_activation() -> None:
    """The first connection starts the service and is answered; URL, readiness and exit code are correct."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listener = NotifyListener(f"@vlrun-test-{os.getpid()}-handed")
    passed = ["-E", "PYTHONPATH", "-E", f"NOTIFY_SOCKET={listener.address}", "-E", "WATCHDOG_USEC=3000000"]
    service = CommandServer(["systemd-socket-activate", "-l", f"127.0.0.1:{port}", *passed, *SERVE])
    service.url = f"http://127.0.0.1:{port}"
    try:
        service.wait_for(re.compile("Listening on"))
        assert post(service, shelf_request()).text == "6"
        assert service.wait_for(re.compile("<6>ready url=(\\S+)"))[1] == service.url
        wait_until(lambda: bool(listener.times("READY=1") and listener.times("WATCHDOG=1")))
        assert service.stop() == 0
        assert listener.times("STOPPING=1")
    finally:
        service.kill()
        listener.close()


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _silent() -> socket.socket:
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    return opened


def _unix() -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(f"\0vlrun-test-{os.getpid()}")
    opened.listen()
    return opened


def _all_addresses() -> socket.socket:
    return socket.create_server(("0.0.0.0", 0))


def _nothing() -> BinaryIO:
    return Path(os.devnull).open("rb")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_datagrams, "did not pass a listening TCP socket"),
        (_silent, "did not pass a listening TCP socket"),
        (_unix, "did not pass a listening TCP socket"),
        (_all_addresses, "other machines can reach"),
        (_nothing, "it is no socket at all"),
    ],
)
def test_a_wrong_socket_is_an_error(make: Callable[[], socket.socket | BinaryIO], sentence: str) -> None:
    """A mistake in vlrun.socket must fail at the start, not make a service unreachable or open to all."""
    with make() as opened:
        number = opened.fileno()
        service = CommandServer([sys.executable, "-c", PASS_DESCRIPTOR, str(number), *SERVE], descriptors=[number])
        try:
            assert service.wait_for_exit() == 12
            assert sentence in service.log[-1]
        finally:
            service.kill()


@pytest.fixture(scope="module")
def container() -> Iterator[SystemdContainer]:
    """A systemd with the packaged units."""
    if reason := systemd_container.skip_reason():
        pytest.skip(reason)
    with systemd_container.running_container() as running:
        yield running


def _ask(container: SystemdContainer, request: Mapping[str, object], **headers: str) -> Reply:
    return container.call_inside(lambda: post(container, request, headers=headers))


def _answers(container: SystemdContainer) -> bool:
    return _ask(container, shelf_request()).text == "6"


def avif() -> dict[str, object]:
    """An image whose decoder runs in a process of its own, within limits that it sets itself."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "AVIF")
    return {"type": "image_url", "image_url": {"url": data_url(file.getvalue(), "avif")}}


@pytest.mark.fault(41, 42)
def test_row_42_read_only_root_and_no_home(container: SystemdContainer) -> None:
    """The packaged unit on a read-only root answers, also with a schema and a photo that need child processes, and
    writes only to its cache. Row 41: it has no GPU device, and notes that the CPU answers.
    """
    container.restart()
    assert (container.property_of("MemoryMax"), container.property_of("WatchdogUSec")) == (str(6 * 2**30), "30s")
    assert _answers(container)
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": RISKY}}
    assert _ask(container, chat_request("Hello", response_format=wanted)).text.startswith('{"a": "')
    assert _ask(container, chat_request(avif(), "?", max_tokens=2)).status == 200
    (note,) = container.call_inside(lambda: get(container, "/health/ready")).json["notes"]
    assert note.startswith("device AUTO: using the CPU, because ")
    assert note in container.run("journalctl", "--unit", "vlrun.service", "--output", "cat")
    owned = container.run(
        "find", "/var", "/run", "/tmp", "/dev", "-user", "vlrun", "-not", "-path", "/run/credentials/*"
    )
    assert {Path(path).parts[:5] for path in owned.split()} == {("/", "var", "cache", "private", "vlrun")}
    assert "/verified/" in owned
    assert "/prefixes/" in owned


def test_process_metrics_inside_the_sandbox(container: SystemdContainer) -> None:
    """The unit hides /proc/stat."""
    container.restart()
    assert container.call_inside(lambda: metric(container, "process_resident_memory_bytes")) > 50e6
    assert container.call_inside(lambda: metric(container, "process_open_fds")) > 3


@pytest.mark.fault(42)
def test_row_42_no_writable_folder(container: SystemdContainer) -> None:
    """A form with a 5 MB image, with neither temporary files nor a cache."""
    container.restart("PrivateTmp=no\nInaccessiblePaths=/tmp /var/tmp /dev/shm\nCacheDirectory=\n")
    body, path, headers = form(noise(), "Hello")
    assert container.call_inside(lambda: post(container, body, path, headers)).json["answer"]
    assert _answers(container)


@pytest.mark.fault(24)
def test_row_24_key_from_a_systemd_credential(container: SystemdContainer) -> None:
    """With LoadCredential= clients need a key; without it, as in the other tests, they need none."""
    container.run("install", "-m", "600", "/dev/stdin", "/run/keys", given="kiosk: correct-horse-battery\n")
    container.restart("LoadCredential=api-key:/run/keys\n")
    assert _ask(container, shelf_request()).status == 401
    assert _ask(container, shelf_request(), Authorization="Bearer correct-horse-battery").text == "6"


@pytest.mark.fault(31)
def test_row_31_stop_lets_answers_finish(container: SystemdContainer) -> None:
    """``systemctl stop`` during a stream: it continues to its end, and the service did not fail."""
    container.restart()
    request = long_request(stream=True, max_tokens=400)
    response = container.call_inside(lambda: send_request(container, request)).getresponse()
    response.read(50)
    container.run("systemctl", "stop", "--no-block", "vlrun.service")
    assert list(events(response))[-1] == "[DONE]"
    wait_until(lambda: container.property_of("ActiveState") == "inactive")
    assert container.property_of("Result") == "success"
    assert container.run("systemctl", "is-active", "vlrun.socket") == "active"
    assert _answers(container)  # a new connection starts it again


@pytest.mark.fault(32)
def test_row_32_killed_under_load(container: SystemdContainer) -> None:
    """After kill -9 running answers are lost; new requests wait and get an answer within 3 s plus loading."""
    load = container.restart()
    lost = [container.call_inside(lambda: send_request(container, long_request(stream=True))) for _ in range(3)]
    assert all(connection.getresponse().read(50) for connection in lost)
    began = time.monotonic()
    container.run("systemctl", "kill", "--signal", "KILL", "vlrun.service")
    assert _answers(container)
    assert time.monotonic() - began < 3 + load
    assert container.property_of("NRestarts") == "1"


PROBE = """
import json, os, socket
import numpy
from vlrun.engine.watchdog import backend_cpu_seconds

ones = numpy.ones((2000, 2000))
ones @ ones
try:
    socket.create_connection(("192.0.2.1", 80), 1)
    network = ""
except OSError as error:
    network = error.strerror
print(json.dumps({"seconds": backend_cpu_seconds(), "network": network, "home": "HOME" in os.environ}))
"""


def test_row_43_cpu_time_and_network_inside_the_sandbox(container: SystemdContainer) -> None:
    """The watchdog needs the CPU time of the backend's threads, and nothing inside may open a network socket."""
    container.run("tee", "/run/probe.py", given=PROBE)
    container.restart("Type=oneshot\nExecStart=\nExecStart=/opt/vlrun/bin/python3 /run/probe.py\n")
    probed = json.loads(container.run("journalctl", "--unit", "vlrun.service", "--output", "cat", "--lines", "1"))
    assert probed["seconds"] > 0
    assert probed["network"] == "Address family not supported by protocol"
    assert not probed["home"]


@pytest.mark.fault(33)
def test_row_33_a_stopped_process_is_restarted(container: SystemdContainer) -> None:
    """The watchdog of systemd kills and restarts it; waiting clients are answered."""
    container.restart("WatchdogSec=1\n")
    container.run("systemctl", "kill", "--kill-who", "main", "--signal", "STOP", "vlrun.service")
    began = time.monotonic()
    assert _answers(container)
    assert time.monotonic() - began > 1
    assert container.property_of("NRestarts") == "1"


@pytest.mark.fault(34)
def test_row_34_too_much_memory(container: SystemdContainer) -> None:
    """A 24-megapixel image under a memory limit too low for it: the service restarts and answers the next request."""
    container.restart()
    assert _answers(container)
    status = container.run("cat", f"/proc/{container.property_of('MainPID')}/status")
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    container.configure(f"MemoryMax={peak + 40 * 2**20}\nMemoryHigh=infinity\n")
    container.run("systemctl", "restart", "vlrun.service")
    lost = container.call_inside(lambda: send_request(container, chat_request(large_image(), "What is it?")))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        lost.getresponse()
    assert _answers(container)
    assert container.property_of("NRestarts") == "1"


def large_image() -> dict[str, Any]:
    """A 24-megapixel image: 70 KB encoded, 72 MB decoded."""
    file = io.BytesIO()
    Image.new("RGB", (6000, 4000), "white").save(file, "PNG")
    return {"type": "image_url", "image_url": {"url": data_url(file.getvalue())}}


def test_crashes_never_close_the_socket(container: SystemdContainer) -> None:
    """StartLimitIntervalSec=0: repeated crashes must not stop the socket unit."""
    container.restart()
    container.configure("ExecStart=\nExecStart=/bin/false\nRestartSec=50ms\n")
    container.run("systemctl", "restart", "--no-block", "vlrun.service")
    wait_until(lambda: int(container.property_of("NRestarts")) > 6, 20)
    assert container.run("systemctl", "is-active", "vlrun.socket") == "active"
    container.configure()
    assert _answers(container)
