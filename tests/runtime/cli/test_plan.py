"""``vlrun plan`` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.paths import EXAMPLES
from tests.runtime.cli.command_line import vlrun

pytestmark = pytest.mark.slow

SHELF = EXAMPLES / "shelf.png"


def test_a_plan_matches_the_question(tmp_path: Path) -> None:
    """The plan has the same token counts as the question, and times once the machine was measured."""
    arguments = (SHELF, EXAMPLES / "word.png", "Which has more bottles?")
    planned = json.loads(vlrun("plan", *arguments, "--json", home=tmp_path).stdout)
    answered = json.loads(vlrun("ask", *arguments, "--json", home=tmp_path).stdout)
    assert planned["prompt_tokens"] == answered["usage"]["prompt_tokens"]
    assert sum(image["tokens"] for image in planned["images"]) == answered["usage"]["image_tokens"]
    assert 0 < planned["ttft"] < 60
    assert planned["memory"] > planned["kv_memory"] > 0
    text = vlrun("plan", *arguments, home=tmp_path).stdout.decode()
    assert "visual tokens" in text
    assert "loading it and running it once" not in vlrun("plan", *arguments, home=tmp_path).stderr.decode()
    assert vlrun("plan", SHELF, "--context", "20", home=tmp_path).returncode == 5
    assert vlrun("plan", SHELF, "--votes", "3", home=tmp_path).returncode == 2
    assert vlrun("plan", SHELF, "--task", "compare", home=tmp_path).returncode == 2
