"""The service's life: a socket, a model on its way, uvicorn, and an end that loses nothing which can be finished.

Stopping: the first signal refuses new requests and gives running ones ``limits.drain`` seconds, then cancels them; a
second one ends the process at once. Knows signals and sockets; does not know what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn

from vlrun.errors import DeviceError, ServiceError
from vlrun.server.app import Service
from vlrun.server.logging import MAX_ASKED, note
from vlrun.server.middleware.http_protocol import protocol
from vlrun.server.systemd import SystemdNotifier

BACKLOG = 64
POLL_SECONDS = 0.1
END_SECONDS = 10.0
"""For cancelled answers to end, and then for the device: its last step is cancelled within 50 ms, unless it hangs."""
FIRST_INHERITED = 3
"""The first descriptor that systemd hands over, ``SD_LISTEN_FDS_START``."""
WRONG_SOCKET = "what systemd handed over is no listening TCP socket"
SECOND_SIGNAL = 130
"""The exit code when a second signal ends the process at once."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on an address of this machine. Raises ServiceError."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = infos[0]
        opened = socket.socket(family, kind, number)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such address"
        raise ServiceError(f"cannot listen on {host} port {port}: {reason}") from error
    return opened


def url_of(opened: socket.socket) -> str:
    """Where clients find it."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(service: Service, opened: socket.socket, notifier: SystemdNotifier) -> None:
    """Serve until a signal says stop.

    Raises what is wrong with the model, if it cannot be loaded.
    """
    config = uvicorn.Config(
        service.application(),
        http=protocol(service.limits, service.metrics.sent),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(service.limits.idle_seconds),
        timeout_graceful_shutdown=int(END_SECONDS),
        backlog=BACKLOG,
    )
    server = _Server(config)
    service.connections = lambda: len(server.server_state.connections)
    asyncio.run(_run(server, service, opened, notifier))


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would stop listening at the first one, and turn away whoever comes while running
    answers are finished.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No."""
        yield


async def _run(server: _Server, service: Service, opened: socket.socket, notifier: SystemdNotifier) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    note("listening", url=url_of(opened))
    serving = asyncio.ensure_future(server.serve([opened]))
    loading = asyncio.ensure_future(service.load())
    watching = asyncio.ensure_future(notifier.watch(service.progressing, loading.done))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({serving, loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            notifier.ready()
            _tell(service, opened)
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(service, notifier)
    finally:
        service.stopping = True
        service.desk.end()
        server.should_exit = True
        await serving
        _close(service)
        for task in (watching, stopping, loading):
            task.cancel()


def _tell(service: Service, opened: socket.socket) -> None:
    vlm = service.vlm
    notes = "; ".join(vlm.notes) or None
    note("ready", longest=MAX_ASKED, url=url_of(opened), model=service.names[0], device=vlm.device, notes=notes)


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        note("stopped at once", logging.WARNING)
        os._exit(SECOND_SIGNAL)
    stop.set()


async def _drain(service: Service, notifier: SystemdNotifier) -> None:
    """Let running answers end."""
    service.stopping = True
    seconds = service.limits.drain
    notifier.stopping(seconds)
    note("stopping", requests=service.busy, seconds=seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while service.busy:
                await asyncio.sleep(POLL_SECONDS)
    if service.busy:
        note("cancelling", logging.WARNING, requests=service.busy)
    service.desk.end()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while service.busy:
                await asyncio.sleep(POLL_SECONDS)


def _close(service: Service) -> None:
    """Stop the model. A device that hangs ends with the process."""
    patience = threading.Timer(END_SECONDS, _give_up)
    patience.start()
    service.close()
    patience.cancel()


def _give_up() -> None:
    note("the device does not stop", logging.ERROR)
    os._exit(DeviceError.exit_code)


def inherited_socket() -> socket.socket:
    """The one listening TCP socket that systemd handed over (sd_listen_fds(3)). Raises ServiceError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise ServiceError("--systemd expects one socket from systemd (LISTEN_FDS): start vlrun.socket")
    try:
        opened = socket.socket(fileno=FIRST_INHERITED)
    except OSError:
        raise ServiceError(f"{WRONG_SOCKET}: it is no socket at all") from None
    opened.set_inheritable(False)
    listening = opened.type == socket.SOCK_STREAM and opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listening or opened.family not in (socket.AF_INET, socket.AF_INET6):
        opened.close()
        raise ServiceError(f"{WRONG_SOCKET}: ListenStream= of vlrun.socket must be an address and a port")
    return opened
