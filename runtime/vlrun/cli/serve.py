"""``vlrun serve``: serves the model over HTTP."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from vlrun.cli import web_page
from vlrun.cli.installation import missing_packages
from vlrun.cli.option_groups import option_group
from vlrun.cli.options import ModelOptions, with_model_options
from vlrun.cli.parameter_types import FILE, NAME, FiniteRange
from vlrun.cli.progress_line import timed
from vlrun.errors import OptionError, ServiceError

if TYPE_CHECKING:
    import socket

    from vlrun.server.app import Access
    from vlrun.server.limits import ServerLimits

NO_KEY_OPTION = "let-anyone-in-without-a-key"

_LISTEN: Mapping[str, Mapping[str, Any]] = {
    "host": {"type": NAME, "help": "Address of this machine to listen on. [default: 127.0.0.1]"},
    "port": {"type": click.IntRange(0, 65535), "help": "0 takes any free one. [default: 8321]"},
    "systemd": {"is_flag": True, "help": "Use systemd's socket, and notify systemd of the state."},
    "api_key_file": {
        "type": FILE,
        "metavar": "FILE",
        "help": "API keys that clients need, one per line.",
    },
    "without_key": {"option": NO_KEY_OPTION, "is_flag": True, "help": "Listen on a network address without keys."},
    "allow_host": {
        "type": NAME,
        "multiple": True,
        "metavar": "NAME",
        "help": "Host name that clients use for this machine.",
    },
    "allow_origin": {
        "type": NAME,
        "multiple": True,
        "metavar": "ORIGIN",
        "help": "Allow requests from web pages of ORIGIN (CORS).",
    },
    "name": {
        "type": NAME,
        "multiple": True,
        "metavar": "NAME",
        "help": "Model name for clients. [default: the model's own]",
    },
    "tasks": {"type": FILE, "metavar": "FILE", "help": "TOML file with tasks of your own."},
    "log_prompts": {"is_flag": True, "help": "Log questions and answers."},
}
_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "parallel": {"type": click.IntRange(1, 8), "help": "Maximum of concurrent requests. [default: 4]"},
    "queue": {"type": click.IntRange(0, 1000), "help": "Maximum of waiting requests; more get 429. [default: 16]"},
    "deadline": {"type": FiniteRange(1, 86400), "help": "Seconds per request, with waiting. [default: 300]"},
    "drain": {"type": FiniteRange(0, 3600), "help": "Seconds that a shutdown waits for answers. [default: 30]"},
    "max_body_mib": {"type": click.IntRange(1, 256), "help": "Maximum request size; more gets 413. [default: 15]"},
    "max_images": {
        "aliases": ("--max-pictures",),
        "type": click.IntRange(1, 64),
        "help": "Maximum of images per request. [default: 16]",
    },
    "max_megapixels": {"type": click.IntRange(1, 89), "help": "Maximum size of an image. [default: 50]"},
    "stored_images_mib": {
        "type": click.IntRange(1, 65536),
        "help": "Maximum size of the images that /v1/images keeps. [default: 128]",
    },
    "stored_image_seconds": {
        "type": FiniteRange(1, 86400),
        "help": "Seconds after which it forgets an unused image. [default: 1800]",
    },
    "connections": {"type": click.IntRange(1, 10000), "help": "Maximum of connections; more get 503. [default: 256]"},
    "client_connections": {
        "type": click.IntRange(1, 10000),
        "help": "Maximum of connections from one address. [default: 64]",
    },
}


@dataclass(frozen=True)
class ListenOptions:
    """The values of ``_LISTEN``."""

    host: str = "127.0.0.1"
    port: int = 8321
    systemd: bool = False
    api_key_file: Path | None = None
    without_key: bool = False
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    tasks: Path | None = None
    log_prompts: bool = False

    def access(self) -> Access:
        """Return the allowed hosts, origins and keys. Raises OptionError for a wrong name, and ServiceError."""
        from vlrun.server.app import Access
        from vlrun.server.middleware.allowed_names import check_host, check_origin
        from vlrun.server.middleware.api_keys import ApiKeys

        hosts, origins = map(check_host, self.allow_host), map(check_origin, self.allow_origin)
        keys = ApiKeys.read(self.api_key_file) if self.api_key_file else ApiKeys.credential()
        return Access(frozenset(hosts), frozenset(origins), keys)

    def open(self, keyed: bool) -> socket.socket:
        """Return the listening socket. Raises ServiceError, also for a network address without keys."""
        from vlrun.server.server import inherited_socket, listen

        sock = inherited_socket() if self.systemd else listen(self.host, self.port)
        address = str(sock.getsockname()[0])
        if not (keyed or self.without_key or ipaddress.ip_address(address.partition("%")[0]).is_loopback):
            sock.close()
            raise ServiceError(
                f"other machines can reach {address}: give --api-key-file, or --{NO_KEY_OPTION} if that is intended"
            )
        return sock


def _limits(**given: Any) -> ServerLimits:
    from vlrun.server.limits import ServerLimits

    return ServerLimits(**given)


class _Serve(click.Command):
    """Lists further limits at the end of the help."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the limits that no option changes."""
        from vlrun.server.limits import ServerLimits, fixed_limits

        with formatter.section("Further limits"):
            formatter.write_dl([(value, text) for value, text in fixed_limits(ServerLimits())])


@click.command(cls=_Serve)
@option_group("listen", _LISTEN, ListenOptions)
@option_group("page", web_page.OPTIONS, web_page.PageOptions)
@option_group("limits", _LIMITS, _limits)
@with_model_options
def serve(listen: ListenOptions, page: web_page.PageOptions, limits: ServerLimits, model_options: ModelOptions) -> None:
    """Serve the web page and the API: http://127.0.0.1:8321.

    The base URL for clients of the OpenAI API ends in /v1. docs/service.md describes endpoints, keys, limits and
    errors. The log goes to stderr. Ctrl+C or SIGTERM waits for running answers; a second one stops at once.
    """
    try:
        from vlrun.server import logging, server
        from vlrun.server.app import Service
        from vlrun.server.browser import open_page
        from vlrun.server.middleware.allowed_names import OPAQUE_ORIGIN
        from vlrun.server.systemd import SystemdNotifier
        from vlrun.tasks.definition import built_in_tasks, load_tasks
    except ImportError as error:
        raise OptionError(missing_packages("serve"), error) from error
    with model_options.progress_line() as line:
        logging.set_up(listen.systemd, cast(TextIO, line.stream) if line.active else None)
        access = listen.access()
        if OPAQUE_ORIGIN in access.origins:
            logging.log_event("allowed origin null", level=WARNING, note="every web page can send it")
        tasks = load_tasks(listen.tasks) if listen.tasks else built_in_tasks()
        web = page.web_page(tasks)
        sock = listen.open(access.keys is not None)
        vlm = model_options.load(line)
        names = listen.name or (vlm.manifest.name,)
        service = Service(vlm, names, limits, access, listen.log_prompts, web, tasks)
        loading = timed(f"loading {vlm.manifest.name}", None, time.monotonic())
        line.show(lambda: "" if service.loaded else loading())
        server.serve(service, sock, SystemdNotifier(), open_page if page.open else None)
