"""``vlrun plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.paths import EXAMPLES
from tests.runtime.cli.conftest import RunHere

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_model")]

SHELF = EXAMPLES / "shelf.png"


def test_a_plan_matches_the_question(run_here: RunHere) -> None:
    """The plan has the same token counts as the question, and times once the machine was measured."""
    arguments = (SHELF, EXAMPLES / "word.png", "Which has more bottles?")
    planned = json.loads(run_here("plan", *arguments, "--json").stdout)
    answered = json.loads(run_here("ask", *arguments, "--json").stdout)
    assert planned["prompt_tokens"] == answered["usage"]["prompt_tokens"]
    assert sum(image["tokens"] for image in planned["images"]) == answered["usage"]["image_tokens"]
    assert 0 < planned["ttft"] < 60
    assert planned["memory"] > planned["kv_memory"] > 0
    text = run_here("plan", *arguments).stdout.decode()
    assert "visual tokens" in text
    assert "loading it and running it once" not in run_here("plan", *arguments).stderr.decode()
    assert run_here("plan", SHELF, "--context", "20").returncode == 5
    assert run_here("plan", SHELF, "--votes", "3").returncode == 2
    assert run_here("plan", SHELF, "--task", "compare").returncode == 2


def test_a_plan_of_a_video_matches_the_question(run_here: RunHere, tmp_path: Path) -> None:
    """It counted the frames that are sampled for no model and machine in particular."""
    pytest.importorskip("av", reason="the extra video is not installed")
    from tests.video_clips import video

    (tmp_path / "long.mp4").write_bytes(video(130, fps=2, size=(320, 240)))
    given = (tmp_path / "long.mp4", EXAMPLES / "ball.mp4", "--json")
    usage = json.loads(run_here("ask", *given, "-q", "What moves?", "--max-tokens", "1").stdout)["usage"]
    assert json.loads(run_here("plan", *given, "What moves?").stdout)["prompt_tokens"] == usage["prompt_tokens"]
