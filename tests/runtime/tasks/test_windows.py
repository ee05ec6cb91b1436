"""Long videos in windows: times, summaries of summaries, and prompts and memory that do not grow with the video."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlrun
from tests.scripted_vlm import INSTRUCT_TEMPLATE, ScriptedVLM
from vlrun.errors import DamagedMedia, OptionError, UnsupportedMedia
from vlrun.media.video import PendingClip, Video
from vlrun.media.video_file import VideoFile
from vlrun.tasks import windows as windows_module
from vlrun.tasks.windows import GROUP, LEAST_REST, WindowAnswer, ask_windows, clock, span_of, windows_of
from vlrun.types.video_rules import PUBLISHED_RULES

pytest.importorskip("av", reason="the extra video is not installed")

from tests.streams import FPS, clip
from tests.video_clips import video as time_lapse

QUESTION = "What happens?"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 seconds."""
    path = tmp_path_factory.mktemp("video") / "long.ts"
    path.write_bytes(b"".join(clip(40 * FPS)))
    return path


@pytest.fixture
def vlm() -> ScriptedVLM:
    scripted = ScriptedVLM(INSTRUCT_TEMPLATE)
    scripted.write("A bottle.")
    return scripted


def prompts(vlm: ScriptedVLM) -> list[str]:
    return [vlm._tokenizer.decode(request.ids.tolist(), skip_special_tokens=False) for request in vlm.scripted.requests]


def test_each_window_is_answered_and_then_all_are_summarised(vlm: ScriptedVLM, video: Path) -> None:
    answers = list(ask_windows(vlm, video, QUESTION, seconds=10))
    assert [(one.start, one.end, one.summary) for one in answers] == [
        (0, 10, False),
        (10, 20, False),
        (20, 30, False),
        (30, 40, False),
        (0, 40, True),
    ]
    assert {one.text for one in answers} == {"A bottle."}
    *asked, last = prompts(vlm)
    assert all(QUESTION in prompt and "[0:00-0:10]" not in prompt for prompt in asked)
    assert "seconds>" in asked[2]
    for line in ("[0:00-0:10] A bottle.", "[0:30-0:40] A bottle.", QUESTION):
        assert line in last


def test_times_of_frames_are_those_of_the_whole_video(vlm: ScriptedVLM, video: Path) -> None:
    list(ask_windows(vlm, video, QUESTION, seconds=20))
    assert "<20." in prompts(vlm)[1].replace(" ", "")
    assert "<0." not in prompts(vlm)[1].replace(" ", "")


def test_start_and_end_limit_the_whole(vlm: ScriptedVLM, video: Path) -> None:
    answers = list(ask_windows(vlm, vlrun.Video(video, start=5, end=25), QUESTION, seconds=10))
    assert [(one.start, one.end) for one in answers] == [(5, 15), (15, 25), (5, 25)]


def test_the_file_is_scanned_once(vlm: ScriptedVLM, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, real = [], VideoFile._scan

    def scan(*given: Any) -> Any:
        scans.append(given)
        return real(*given)

    monkeypatch.setattr(VideoFile, "_scan", scan)
    list(ask_windows(vlm, video, QUESTION, seconds=5))
    assert len(scans) == 1


def test_a_summary_needs_several_windows_and_text(vlm: ScriptedVLM, video: Path) -> None:
    assert [one.summary for one in ask_windows(vlm, video, QUESTION, seconds=60)] == [False]
    vlm.write('{"n":1}')
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answers = list(ask_windows(vlm, video, QUESTION, vlrun.Options(schema=schema), seconds=20))
    assert [(one.summary, one.result and one.result.value) for one in answers] == [(False, {"n": 1})] * 2


def test_a_window_that_cannot_be_decoded_does_not_stop_the_others(
    vlm: ScriptedVLM, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()
    real = windows_module.answer_window

    def answer(*given: Any) -> Any:
        if next(calls) == 1:
            raise DamagedMedia("no frame")
        return real(*given)

    monkeypatch.setattr(windows_module, "answer_window", answer)
    answers = list(ask_windows(vlm, video, QUESTION, seconds=10))
    assert [str(one.error or "") for one in answers] == ["", "no frame", "", "", ""]
    assert (answers[1].text, answers[1].result) == ("", None)
    assert "[0:10-0:20]" not in prompts(vlm)[-1]


def summarised(windows: int, vlm: ScriptedVLM) -> list[str]:
    """Return the prompts of the summaries of a video of many windows."""
    del vlm.scripted.requests[:]
    summary = windows_module.Summary(vlm, vlrun.TaskRequest(QUESTION), vlrun.Options())
    for number in range(windows):
        summary.add(60.0 * number, 60.0 * number + 60, "A bottle. " * 110)
    whole = summary.finish()
    assert isinstance(whole, WindowAnswer)
    assert (whole.start, whole.end) == (0, 60.0 * windows)
    return prompts(vlm)


def test_prompts_do_not_grow_with_the_video(vlm: ScriptedVLM) -> None:
    assert len(summarised(GROUP, vlm)) == 1
    assert len(summarised(GROUP + 1, vlm)) == 2
    longest = max(map(len, summarised(GROUP**2, vlm)))
    many = summarised(3 * GROUP**2, vlm)
    assert max(map(len, many)) <= 1.5 * longest
    assert len(many) < 4 * GROUP


def test_the_language_of_the_question_is_that_of_the_summary(vlm: ScriptedVLM, video: Path) -> None:
    list(ask_windows(vlm, video, "发生了什么？", seconds=20))
    assert "整个视频" in prompts(vlm)[-1]


def test_memory_does_not_grow_with_the_video(vlm: ScriptedVLM, tmp_path: Path) -> None:
    peaks = []
    for seconds in (20, 100):
        path = tmp_path / f"{seconds}.ts"
        path.write_bytes(b"".join(clip(FPS * seconds)))
        tracemalloc.start()
        for _ in ask_windows(vlm, path, QUESTION, seconds=10):
            vlm.scripted.requests.clear()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


@given(
    st.floats(0.1, 1e5), st.floats(0, 1e5), st.none() | st.floats(0.1, 1e5), st.floats(1, 7200).filter(math.isfinite)
)
@settings(max_examples=60, deadline=None)
def test_windows_cover_the_video_without_gaps(duration: float, start: float, end: float | None, seconds: float) -> None:
    if start >= min(duration, end or duration) or duration / seconds > 500:
        return
    video: Any = SimpleNamespace(
        video=SimpleNamespace(start=start, end=end),
        info=SimpleNamespace(duration=duration),
        part=lambda begin, stop: (begin, stop),
        has_frame=lambda *_: True,
    )
    parts: Any = list(windows_of(video, seconds))
    assert parts[0][0] == start
    assert parts[-1][1] == min(duration, end or duration)
    for (one_begin, one_end), (next_begin, _) in itertools.pairwise(parts):
        assert one_end == pytest.approx(next_begin)
        assert one_end - one_begin == pytest.approx(seconds)
    assert parts[-1][1] - parts[-1][0] <= seconds * (1 + LEAST_REST) + 1e-6
    assert len(parts) == 1 or parts[-1][1] - parts[-1][0] >= seconds * LEAST_REST - 1e-6


def test_windows_without_a_frame_are_left_out() -> None:
    """The frames of a time-lapse are further apart than windows; the last ones began after the last frame."""
    pending = PendingClip(Video(time_lapse(3, times=[0, 40_000, 80_000])))
    rate, found = pending.info.fps, list(windows_of(pending, 5))
    assert {number for part in found for number in part.sampled(PUBLISHED_RULES)} == {0, 1, 2}
    for part in found:
        start, end = span_of(part)
        assert all(start <= number / rate + 1e-6 <= end + 2e-6 for number in part.sampled(PUBLISHED_RULES))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (5.9, "0:05"), (65, "1:05"), (3599, "59:59"), (3723, "1:02:03")]
)
def test_times_are_written_as_people_do(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_wrong_arguments_are_told_at_once(vlm: ScriptedVLM, video: Path, tmp_path: Path) -> None:
    for seconds in (0, 0.5, -1, math.nan, math.inf, "60", None):
        with pytest.raises(OptionError, match="seconds must be"):
            ask_windows(vlm, video, QUESTION, seconds=seconds)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"question must be a text or a vlrun.TaskRequest, not int"):
        ask_windows(vlm, video, 5)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="schema"):
        ask_windows(vlm, video, QUESTION, vlrun.Options(schema={"type": "strnig"}))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(DamagedMedia, match="is empty"):
        ask_windows(vlm, tmp_path / "empty.mp4", QUESTION)
    (tmp_path / "a.txt").write_bytes(b"hello" * 100)
    with pytest.raises((DamagedMedia, UnsupportedMedia)):
        ask_windows(vlm, tmp_path / "a.txt", QUESTION)
