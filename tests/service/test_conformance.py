"""What the service promises in writing, held against what it does: schemathesis on its own document, and OpenAI's own
schemas for its answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.asking import QUESTION, asked, begin, events, get, idle, new_picture, picture, post, shelf, until
from tests.service.openai_schema import check
from tests.service.room import Server, serving

HOOKS = Path(__file__).with_name("conformance_hooks.py")
SCHEMATHESIS = "from schemathesis.cli import schemathesis; schemathesis()"
KEY = "correct-horse-battery-staple"


def fuzz(server: Server, folder: Path, *options: str) -> str:
    """What schemathesis says at its end; fails with all that it says if it found something."""
    arguments = ["run", f"{server.url}/openapi.json", "--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    arguments += ["--seed", "5", "--workers", "2", "--request-timeout", "60", "--suppress-health-check", "all"]
    arguments += ["--no-color", "--output-truncate", "false", "--continue-on-failure", *options]
    done = subprocess.run(
        [sys.executable, "-c", SCHEMATHESIS, *arguments],
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_service_does_what_its_document_says(server: Server, tmp_path: Path) -> None:
    """Guards generated clients: statuses, content types, headers and shapes of answers, refusal of what does not fit,
    and of methods that are not there. Thousands of requests, the same ones each time, and none of them a 5xx.
    """
    said = fuzz(server, tmp_path, "--max-examples", "30")
    assert "No issues found" in said
    assert "Operations:       10 selected" in said
    until(lambda: idle(server))
    assert post(server, shelf()).text == "6"


def test_the_document_says_where_keys_are_needed(tmp_path: Path) -> None:
    """Guards `security`: without its key, or with another, each operation but one refuses (ignored_auth)."""
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    with serving("--api-key-file", str(keys)) as keyed:
        headers = ("--header", f"Authorization: Bearer {KEY}")
        said = fuzz(keyed, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "3", *headers)
        assert "No issues found" in said
