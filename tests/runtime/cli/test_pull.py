"""``vlrun pull`` and then ``vlrun ask``, as a user types them, against a hub on loopback."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exports import export
from tests.hub_server import Fault, HubServer, running_hub
from tests.paths import EXAMPLES, RUNTIME
from tests.runtime.cli.command_line import vlrun
from vlrun.cli import pull as command
from vlrun.embedded import FOLDER
from vlrun.layout import OPTIMUM
from vlrun.manifest import MANIFEST

pytestmark = pytest.mark.slow
QUESTION = "How many bottles are there?"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """The embedded model as ``acme/Shelves``."""
    with running_hub() as server:
        server.publish_folder("acme/Shelves", FOLDER)
        yield server


def run(hub: HubServer, home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "hf"),
        "VLRUN_MODELS": str(home / "models"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    return vlrun(*words, home=home / "cache", stdin=b"", **settings | environment)


def test_pull_and_ask_without_torch(hub: HubServer, tmp_path: Path) -> None:
    """Everything that the README promises, and nothing of the export is imported."""
    for name in ("torch", "transformers", "vlrun_export"):
        (tmp_path / "blocked").mkdir(exist_ok=True)
        (tmp_path / "blocked" / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    path = f"{tmp_path / 'blocked'}:{RUNTIME}"
    done = run(hub, tmp_path, "pull", "acme/Shelves", PYTHONPATH=path)
    commit = hub.repositories["acme/Shelves"].revisions["main"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("shelves: complete, ")
    assert f"from acme/Shelves@{commit[:12]}" in done.stdout.decode()
    assert b"'shelves' is the default model from now on" in done.stderr
    for words in (("-m", "shelves"), ()):
        asked = run(hub, tmp_path, "ask", str(EXAMPLES / "shelf.png"), QUESTION, *words, PYTHONPATH=path)
        assert (asked.stdout, asked.stderr) == (b"6\n", b"")


def test_a_folder_of_optimum_answers_as_the_model_in_our_layout(
    hub: HubServer, tied_checkpoint: Path, tied_model: Path, tmp_path: Path
) -> None:
    """The same weights in both layouts; what ``optimum-cli`` writes has no manifest."""
    folder = export(tied_checkpoint, tmp_path / "made", OPTIMUM)
    (folder / MANIFEST).unlink()
    hub.publish_folder("acme/Made", folder)
    assert run(hub, tmp_path, "pull", "acme/Made").returncode == 0
    question = ("ask", str(EXAMPLES / "shelf.png"), QUESTION, "--max-tokens", "16", "--temperature", "0")
    answers = {run(hub, tmp_path, *question, "-m", model).stdout for model in ("made", str(tied_model))}
    assert len(answers) == 1
    assert answers != {b""}


def test_pull_prints_json(hub: HubServer, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "pull", "acme/Shelves", "--name", "mine", "--json")
    printed = json.loads(done.stdout)
    assert printed["name"] == "mine"
    assert printed["new"]
    assert Path(printed["folder"]).is_dir()


@pytest.mark.fault(40)
def test_a_hub_that_fails_gives_one_sentence(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["listing"] = Fault(status=429, headers={"Retry-After": "30"})
    done = run(hub, tmp_path, "pull", "acme/Shelves")
    assert done.returncode == 13
    assert done.stderr.decode() == (
        f"vlrun: the hub at {hub.endpoint} limits the number of requests: try again in 30 s\n"
    )
    done = run(hub, tmp_path, "pull", "acme/None", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (
        13,
        b"vlrun: HF_HUB_OFFLINE is set, so nothing is downloaded: unset it first\n",
    )


def test_a_log_gets_a_line_when_something_has_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours without a word in the log of a slow pull, and a line every moment."""
    monkeypatch.setattr(command, "LOG_SECONDS", 0.001)
    asked, texts = threading.Semaphore(0), iter(["1 %", "1 %", "2 %", "2 %"])

    def describe() -> str:
        asked.release()
        return next(texts, "2 %")

    with command._logged(describe, wanted=True):
        for _ in range(5):
            asked.acquire()
    assert capsys.readouterr().err == "vlrun: 1 %\nvlrun: 2 %\n"


def test_the_extra_that_is_missing_is_named(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('no hub')")
    done = run(hub, tmp_path, "pull", "acme/Shelves", PYTHONPATH=f"{tmp_path}:{RUNTIME}")
    assert done.returncode == 2
    assert b"'vlrun pull' needs more packages: run " in done.stderr
