"""Videos on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.cli.command_line import vlrun
from vlrun.cli.video_options import VideoOptions
from vlrun.errors import OptionError
from vlrun.media.video import Video

pytest.importorskip("av", reason="the extra video is not installed")
from tests.video_clips import sound_only, video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("videos")
    (out / "clip.mp4").write_bytes(video(60, size=(128, 96)))
    (out / "sound.mp4").write_bytes(sound_only())
    (out / "cut.mp4").write_bytes(video(60)[:600])
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(out / "photo.png")
    return out


def test_options_apply_to_videos_alone(folder: Path) -> None:
    options = VideoOptions(fps=1.0, max_frames=5, start=2.0)
    clip = options.apply(str(folder / "clip.mp4"))
    assert clip == Video(str(folder / "clip.mp4"), fps=1.0, max_frames=5, start=2.0)
    photo = options.apply(str(folder / "photo.png"))
    assert photo == str(folder / "photo.png")
    options.check_used([clip, photo])
    VideoOptions().check_used([photo])
    with pytest.raises(OptionError, match="--fps is for videos, and none is given"):
        options.check_used([photo])
    with pytest.raises(OptionError, match="--max-pixels is for videos"):
        VideoOptions(max_pixels=5000).check_used([photo])


@pytest.mark.slow
def test_a_question_about_a_video(folder: Path) -> None:
    """From a file and from stdin; the options change what is seen, and the answer is the same for the same frames."""
    home, clip = folder / "home", folder / "clip.mp4"
    done = vlrun("ask", clip, "What moves?", "--max-frames", "4", "--json", home=home)
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert whole["usage"]["image_tokens"] > 0
    piped = vlrun("ask", "-", "What moves?", "--max-frames", "4", "--json", home=home, stdin=clip.read_bytes())
    assert json.loads(piped.stdout)["answer"] == whole["answer"]
    part = vlrun("ask", clip, "What moves?", "--start", "1", "--end", "2", "--fps", "1", "--json", home=home)
    assert json.loads(part.stdout)["usage"]["image_tokens"] <= whole["usage"]["image_tokens"]


PROBLEMS = [
    (["sound.mp4", "What?"], 3, "'{}/sound.mp4' has no video, only sound"),
    (["photo.png", "What?", "--fps", "2"], 2, "--fps is for videos, and none is given"),
    (["clip.mp4", "What?", "--draw", "out.png"], 2, "--draw and --heatmap are for images, not for videos"),
    (["clip.mp4", "What?", "--region", "0,0,9,9"], 2, "--region and --enhance are for images"),
    (["clip.mp4", "What?", "--tiles", "1x2"], 2, "tiles need an image, not a video"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code", "message"), PROBLEMS)
def test_a_problem_is_told_in_one_sentence(folder: Path, arguments: list[str], code: int, message: str) -> None:
    name, *others = arguments
    done = vlrun("ask", folder / name, *others, home=folder / "home")
    assert message.format(folder) in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert done.returncode == code
