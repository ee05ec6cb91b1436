"""``vlrun serve``: the model behind HTTP. What it says while it runs is its log, on stderr.

Knows click, and who may be let in; the web server is imported when the command runs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
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

SERVE_HINT = "'vlrun serve' needs further packages: pip install 'vlrun[serve]', or './scripts/serve' in a clone"
ANYONE = "let-anyone-in-without-a-key"

_PLACE: Mapping[str, Mapping[str, Any]] = {
    "host": {"help": "Address of this machine to listen on. [default: 127.0.0.1]"},
    "port": {"type": click.IntRange(0, 65535), "help": "0 takes any free one. [default: 8321]"},
    "systemd": {"is_flag": True, "help": "Take the socket from systemd, and tell it how things are."},
    "api_key_file": {
        "type": click.Path(path_type=Path),
        "metavar": "FILE",
        "help": "Keys, one a line: clients need one.",
    },
    "anyone": {"option": ANYONE, "is_flag": True, "help": "Listen on a network address without keys."},
    "allow_host": {"multiple": True, "metavar": "NAME", "help": "A name of this machine that clients use."},
    "allow_origin": {"multiple": True, "metavar": "ORIGIN", "help": "A web page's origin that may call (CORS)."},
    "name": {"multiple": True, "metavar": "NAME", "help": "What clients may call the model. [default: its own name]"},
    "log_prompts": {"is_flag": True, "help": "Write questions and answers into the log."},
}
_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "parallel": {"type": click.IntRange(1, 8), "help": "Answers made at once. [default: 4]"},
    "queue": {"type": click.IntRange(0, 1000), "help": "Requests that may wait; more get 429. [default: 16]"},
    "deadline": {"type": click.FloatRange(1, 86400), "help": "Seconds for a request, waiting too. [default: 300]"},
    "drain": {"type": click.FloatRange(0, 3600), "help": "Seconds for running answers at a stop. [default: 30]"},
    "max_body_mib": {"type": click.IntRange(1, 256), "help": "Of a request; more is 413. [default: 15]"},
    "max_images": {"type": click.IntRange(1, 64), "help": "In a request. [default: 16]"},
    "max_megapixels": {"type": click.IntRange(1, 89), "help": "Of an image. [default: 50]"},
    "connections": {"type": click.IntRange(1, 10000), "help": "Open at once; more get 503. [default: 256]"},
}


@dataclass(frozen=True)
class ListenOptions:
    """Where the service stands, and who may come in."""

    host: str = "127.0.0.1"
    port: int = 8321
    systemd: bool = False
    api_key_file: Path | None = None
    anyone: bool = False
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    name: tuple[str, ...] = field(default=())
    log_prompts: bool = False

    def access(self) -> Access:
        """Who may come in. Raises ServiceError."""
        from vlrun.server.app import Access
        from vlrun.server.middleware.api_keys import ApiKeys

        keys = ApiKeys.read(self.api_key_file) if self.api_key_file else ApiKeys.credential()
        return Access(frozenset(self.allow_host), frozenset(self.allow_origin), keys)

    def open(self, keyed: bool) -> socket.socket:
        """The listening socket. Raises ServiceError, also if strangers could come in without a key."""
        from vlrun.server.server import inherited_socket, listen

        opened = inherited_socket() if self.systemd else listen(self.host, self.port)
        address = str(opened.getsockname()[0])
        if not (keyed or self.anyone or ipaddress.ip_address(address.partition("%")[0]).is_loopback):
            opened.close()
            raise ServiceError(
                f"{address} can be reached from other machines: give --api-key-file, or --{ANYONE} if that is meant"
            )
        return opened


def _limits(given: Mapping[str, Any]) -> ServerLimits:
    from vlrun.server.limits import ServerLimits

    return ServerLimits(**given)


class _Serve(click.Command):
    """Tells the limits that have no option in the end of its help."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """The limits as a list."""
        from vlrun.server.limits import ServerLimits, fixed

        with formatter.section("Further limits"):
            formatter.write_dl([(value, text) for value, text in fixed(ServerLimits())])


@click.command(cls=_Serve)
@option_group("place", _PLACE, lambda given: ListenOptions(**given))
@option_group("limits", _LIMITS, _limits)
@with_model_options
def serve(place: ListenOptions, limits: ServerLimits, model_options: ModelOptions) -> None:
    """Answer over HTTP as OpenAI's API does: http://127.0.0.1:8321/v1.

    docs/service.md tells about endpoints, keys, limits and errors. The log goes to stderr; Ctrl+C or SIGTERM lets
    running answers end first, a second one stops at once.
    """
    try:
        from vlrun.server import logging as journal
        from vlrun.server import server
        from vlrun.server.app import Service
        from vlrun.server.systemd import SystemdNotifier
    except ImportError as error:
        raise OptionError(SERVE_HINT, error) from error
    journal.set_up(place.systemd)
    access = place.access()
    opened = place.open(access.keys is not None)
    vlm = model_options.load()
    service = Service(vlm, place.name or (vlm.manifest.name,), limits, access, place.log_prompts)
    server.serve(service, opened, SystemdNotifier())
