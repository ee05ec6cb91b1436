"""The life of the service: its socket, the loading model, uvicorn, and a graceful stop.

The first SIGTERM or SIGINT refuses new requests and gives running ones ``limits.drain`` seconds, then cancels them; a
second one ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from vlrun.errors import DeviceError, ServiceError
from vlrun.server.app import Service
from vlrun.server.logging import MAX_PROMPT, log_event
from vlrun.server.middleware.http_protocol import protocol
from vlrun.server.systemd import SystemdNotifier

BACKLOG = 64
POLL_SECONDS = 0.1
END_SECONDS = 10.0
"""Time for cancelled answers to end, and then for the device, whose step is cancelled within 50 ms unless it hangs."""
SD_LISTEN_FDS_START = 3
INVALID_SOCKET = "systemd did not pass a listening TCP socket"
SECOND_SIGNAL = 130
"""The exit code after a second signal."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address of this machine. Raises ServiceError."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = infos[0]
        sock = socket.socket(family, kind, number)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such address"
        raise ServiceError(f"cannot listen on {host} port {port}: {reason}") from error
    return sock


def inherited_socket() -> socket.socket:
    """The one listening TCP socket passed by systemd (sd_listen_fds(3)). Raises ServiceError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise ServiceError("--systemd expects one socket from systemd (LISTEN_FDS): start vlrun.socket")
    try:
        sock = socket.socket(fileno=SD_LISTEN_FDS_START)
    except OSError:
        raise ServiceError(f"{INVALID_SOCKET}: it is no socket at all") from None
    sock.set_inheritable(False)
    listening = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listening or sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.close()
        raise ServiceError(f"{INVALID_SOCKET}: ListenStream= of vlrun.socket must be an address and a port")
    return sock


def url_of(sock: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    service: Service, sock: socket.socket, notifier: SystemdNotifier, when_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until a signal says stop. ``when_ready`` is called with the URL, in a thread, once the model answers.

    Raises ModelError or DeviceError if the model cannot be loaded.
    """
    config = uvicorn.Config(
        service.application(),
        http=protocol(service.limits, service.metrics.responded),
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
    asyncio.run(_run(server, service, sock, notifier, when_ready or (lambda _: None)))


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: it would stop listening at the first signal, and reset new connections while
    running answers end.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_run`."""
        yield


async def _run(
    server: _Server,
    service: Service,
    sock: socket.socket,
    notifier: SystemdNotifier,
    when_ready: Callable[[str], None],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stop)
    log_event("listening", url=url_of(sock))
    serving = asyncio.ensure_future(server.serve([sock]))
    loading = asyncio.ensure_future(service.load())
    watching = asyncio.ensure_future(notifier.watch(service.progressing, loading.done))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({serving, loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            notifier.ready()
            _log_ready(service, sock)
            threading.Thread(target=when_ready, args=(url_of(sock),), daemon=True).start()
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(service, notifier)
    finally:
        service.stopping = True
        service.handler.stop()
        server.should_exit = True
        await serving
        _close(service)
        for task in (watching, stopping, loading):
            task.cancel()


def _log_ready(service: Service, sock: socket.socket) -> None:
    vlm, url = service.vlm, url_of(sock)
    notes = "; ".join(vlm.notes) or None
    log_event(
        "ready",
        max_length=MAX_PROMPT,
        url=url,
        model=service.names[0],
        device=vlm.device,
        settings=vlm.settings,
        notes=notes,
    )


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        log_event("stopped at once", logging.WARNING)
        os._exit(SECOND_SIGNAL)
    stop.set()


async def _drain(service: Service, notifier: SystemdNotifier) -> None:
    """Let running answers end, then cancel them."""
    service.stopping = True
    seconds = service.limits.drain
    notifier.stopping(seconds)
    log_event("stopping", requests=service.active_requests, seconds=seconds)
    await _wait_until_idle(service, seconds)
    if service.active_requests:
        log_event("cancelling", logging.WARNING, requests=service.active_requests)
    service.handler.stop()
    await _wait_until_idle(service, END_SECONDS)


async def _wait_until_idle(service: Service, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while service.active_requests:
                await asyncio.sleep(POLL_SECONDS)


def _close(service: Service) -> None:
    """Stop the model. A device that hangs ends with the process."""
    timer = threading.Timer(END_SECONDS, _give_up)
    timer.start()
    service.close()
    timer.cancel()


def _give_up() -> None:
    log_event("the device does not stop", logging.ERROR)
    os._exit(DeviceError.exit_code)
