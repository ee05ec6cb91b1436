"""``vlrun serve``: the model behind HTTP. The web server is imported when the command runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlrun.cli.option_groups import option_group
from vlrun.cli.options import ModelOptions, with_model_options
from vlrun.errors import OptionError, ServiceError

if TYPE_CHECKING:
    import socket

    from vlrun.server.app import Access
    from vlrun.server.limits import ServerLimits

SERVE_HINT = "'vlrun serve' needs more packages: pip install 'vlrun[serve]', or './scripts/serve' in a clone"
NO_KEY_OPTION = "let-anyone-in-without-a-key"

_LISTEN: Mapping[str, Mapping[str, Any]] = {
    "host": {"help": "Address of this machine to listen on. [default: 127.0.0.1]"},
    "port": {"type": click.IntRange(0, 65535), "help": "0 takes any free one. [default: 8321]"},
    "systemd": {"is_flag": True, "help": "Take the socket from systemd, and notify it of the service's state."},
    "api_key_file": {
        "type": click.Path(path_type=Path),
        "metavar": "FILE",
        "help": "API keys, one per line: clients need one.",
    },
    "without_key": {"option": NO_KEY_OPTION, "is_flag": True, "help": "Listen on a network address without keys."},
    "allow_host": {"multiple": True, "metavar": "NAME", "help": "A name of this machine that clients use."},
    "allow_origin": {"multiple": True, "metavar": "ORIGIN", "help": "A web page's origin that may call (CORS)."},
    "name": {"multiple": True, "metavar": "NAME", "help": "Name of the model for clients. [default: its own name]"},
    "log_prompts": {"is_flag": True, "help": "Log questions and answers."},
}
_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "parallel": {"type": click.IntRange(1, 8), "help": "Answers generated at once. [default: 4]"},
    "queue": {"type": click.IntRange(0, 1000), "help": "Requests that may wait; more get 429. [default: 16]"},
    "deadline": {"type": click.FloatRange(1, 86400), "help": "Seconds for a request, waiting too. [default: 300]"},
    "drain": {"type": click.FloatRange(0, 3600), "help": "Seconds for running answers at a stop. [default: 30]"},
    "max_body_mib": {"type": click.IntRange(1, 256), "help": "Size of a request; more is 413. [default: 15]"},
    "max_images": {
        "aliases": ("max-pictures",),
        "type": click.IntRange(1, 64),
        "help": "Images of a request. [default: 16]",
    },
    "max_megapixels": {"type": click.IntRange(1, 89), "help": "Size of an image. [default: 50]"},
    "connections": {"type": click.IntRange(1, 10000), "help": "Open connections; more get 503. [default: 256]"},
}


@dataclass(frozen=True)
class ListenOptions:
    """Where the service listens, and who may use it."""

    host: str = "127.0.0.1"
    port: int = 8321
    systemd: bool = False
    api_key_file: Path | None = None
    without_key: bool = False
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    log_prompts: bool = False

    def access(self) -> Access:
        """Allowed hosts, origins and keys. Raises ServiceError."""
        from vlrun.server.app import Access
        from vlrun.server.middleware.api_keys import ApiKeys

        keys = ApiKeys.read(self.api_key_file) if self.api_key_file else ApiKeys.credential()
        return Access(frozenset(self.allow_host), frozenset(self.allow_origin), keys)

    def open(self, keyed: bool) -> socket.socket:
        """The listening socket. Raises ServiceError, also for a network address without keys."""
        from vlrun.server.server import inherited_socket, listen

        sock = inherited_socket() if self.systemd else listen(self.host, self.port)
        address = str(sock.getsockname()[0])
        if not (keyed or self.without_key or ipaddress.ip_address(address.partition("%")[0]).is_loopback):
            sock.close()
            raise ServiceError(
                f"other machines can reach {address}: give --api-key-file, or --{NO_KEY_OPTION} if that is intended"
            )
        return sock


def _limits(given: Mapping[str, Any]) -> ServerLimits:
    from vlrun.server.limits import ServerLimits

    return ServerLimits(**given)


class _Serve(click.Command):
    """Lists the limits without an option at the end of its help."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of limits."""
        from vlrun.server.limits import ServerLimits, fixed_limits

        with formatter.section("Further limits"):
            formatter.write_dl([(value, text) for value, text in fixed_limits(ServerLimits())])


@click.command(cls=_Serve)
@option_group("listen", _LISTEN, lambda given: ListenOptions(**given))
@option_group("limits", _LIMITS, _limits)
@with_model_options
def serve(listen: ListenOptions, limits: ServerLimits, model_options: ModelOptions) -> None:
    """Serve OpenAI's API over HTTP: http://127.0.0.1:8321/v1.

    docs/service.md describes endpoints, keys, limits and errors. The log goes to stderr; Ctrl+C or SIGTERM lets
    running answers end first, a second one stops at once.
    """
    try:
        from vlrun.server import logging, server
        from vlrun.server.app import Service
        from vlrun.server.systemd import SystemdNotifier
    except ImportError as error:
        raise OptionError(SERVE_HINT, error) from error
    logging.set_up(listen.systemd)
    access = listen.access()
    sock = listen.open(access.keys is not None)
    vlm = model_options.load()
    service = Service(vlm, listen.name or (vlm.manifest.name,), limits, access, listen.log_prompts)
    server.serve(service, sock, SystemdNotifier())
