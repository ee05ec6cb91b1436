"""One service, shared by all tests that only send requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.runtime.server.running_server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A service with the embedded model and default limits."""
    from tests.runtime.server.running_server import serving

    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that demands ``KEY`` and ends every request after a second."""
    from tests.runtime.server.running_server import KEY, serving

    keys: Path = tmp_path_factory.mktemp("keys") / "keys"
    keys.touch(0o600)
    keys.write_text(f"{KEY}\n")
    with serving("--api-key-file", str(keys), "--deadline", "1") as running:
        yield running


@pytest.fixture(scope="session")
def configured_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with two keys, a task and a kiosk of its own, and 1 MiB for images."""
    from tests.runtime.server.running_server import ALICE, BOB, FRAME_ANCESTOR, serving

    folder: Path = tmp_path_factory.mktemp("configured")
    (folder / "keys").touch(0o600)
    (folder / "keys").write_text(f"alice: {ALICE}\nbob: {BOB}\n")
    (folder / "tasks.toml").write_text('[shelf]\nabout = "say what is on the shelf"\nprompt.en = "What is there?"\n')
    (folder / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    questions = '[[questions]]\nlabel = "<b>What?</b>"\ntask = "shelf"\n'
    (folder / "kiosk.toml").write_text(f'title = "Shelf"\nlogo = "logo.svg"\n{questions}')
    options = {"--api-key-file": "keys", "--tasks": "tasks.toml", "--kiosk-config": "kiosk.toml"}
    files = [text for name, file in options.items() for text in (name, str(folder / file))]
    images = ("--stored-images-mib", "1")
    no_screen = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""}
    with serving(*files, *images, "--frame-ancestor", FRAME_ANCESTOR, "--open", environment=no_screen) as running:
        yield running
