"""The tier of real clients: collected only with ``--clients``. Prints a table of the results at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.runtime.server.running_server import Server

CHECKS = ("text", "picture", "stream", "schema", "tools")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("--clients") else True


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A service with the embedded model and its defaults."""
    from tests.runtime.server.running_server import serving

    with serving() as running:
        yield running


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties)
            if report.when == "call" and "client" in found:
                rows.append([f"{found['client']} {found['version']}", *(found.get(name, "-") for name in CHECKS)])
    if not rows:
        return
    terminalreporter.section("clients")
    table = [["client", *CHECKS], ["---"] * (len(CHECKS) + 1), *rows]
    for row in table:
        terminalreporter.write_line(f"| {' | '.join(row)} |")
