"""Options of ``vlrun serve`` for the web page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrun.cli.parameter_types import FILE, NAME
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.server.pages import WebPage
    from vlrun.tasks.definition import Task

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "open": {"is_flag": True, "help": "Open the page in a browser when the model is ready."},
    "no_web": {"is_flag": True, "help": "Serve the API alone, without the pages / and /kiosk."},
    "kiosk_config": {"type": FILE, "metavar": "FILE", "help": "TOML file with title, logo and questions of /kiosk."},
    "frame_ancestor": {
        "type": NAME,
        "multiple": True,
        "metavar": "ORIGIN",
        "help": "Let web pages of ORIGIN show the page in a frame.",
    },
}


@dataclass(frozen=True)
class PageOptions:
    """The values of ``OPTIONS``."""

    open: bool = False
    no_web: bool = False
    kiosk_config: Path | None = None
    frame_ancestor: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = {"--open": self.open, "--kiosk-config": self.kiosk_config, "--frame-ancestor": self.frame_ancestor}
        for name, value in given.items():
            if self.no_web and value:
                raise OptionError(f"--no-web serves no page: leave out {name}")

    def web_page(self, tasks: Mapping[str, Task]) -> WebPage | None:
        """The page, None for the API alone. Raises OptionError for a wrong origin or configuration."""
        from vlrun.server.kiosk_config import read_kiosk
        from vlrun.server.middleware.allowed_names import check_frame_ancestor
        from vlrun.server.pages import WebPage

        if self.no_web:
            return None
        return WebPage(read_kiosk(self.kiosk_config, tasks), tuple(map(check_frame_ancestor, self.frame_ancestor)))
