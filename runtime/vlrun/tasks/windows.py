"""Long videos, window by window: the same request about each, then a summary, in memory that their length does not
change. Answers are summarised in groups, and these summaries again, so no prompt grows with the video either.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlrun.errors import MediaError, OptionError, VlrunError
from vlrun.media.video import PendingClip, Video, VideoSource
from vlrun.tasks.definition import language_of
from vlrun.tasks.request import TaskRequest, TaskResult
from vlrun.tasks.run import answer_request
from vlrun.types.answer import last_of
from vlrun.types.arguments import has_method, instance, number, optional
from vlrun.types.options import Options

if TYPE_CHECKING:
    from vlrun.vlm import VLM

WINDOW_SECONDS = 60.0
"""Of a window: 120 frames at 2 per second, about what a question about a video has by default."""
MIN_WINDOW_SECONDS = 1.0
"""Shorter ones have a single frame at the default rate."""
LEAST_REST = 0.1
"""Share of a window: a shorter rest at the end belongs to the last window."""
GROUP = 8
"""Answers that are summarised together."""
MAX_PART_CHARACTERS = 1000
"""Of each of them, so that a group has about 2,000 tokens."""

SUMMARY = {
    "en": "These are answers about consecutive parts of one video. The question was: {question}\n\n{answers}\n\n"
    "Give one short answer about the whole video. Keep the times of what matters.",
    "zh": "下面是关于同一个视频中连续各段的回答。问题是：{question}\n\n{answers}\n\n"
    "请简短地给出关于整个视频的一个回答，保留重要内容的时间。",
}


@dataclass(frozen=True)
class WindowAnswer:
    """The answer about a window of a video, or the summary of all.

    Attributes:
        start: Seconds where the window begins.
        end: Seconds where it ends.
        result: The answer; None after an error.
        error: Why there is no answer: no frame of the window can be decoded.
        summary: Whether it is the summary.
    """

    start: float
    end: float
    result: TaskResult | None
    error: VlrunError | None = None
    summary: bool = False

    @property
    def text(self) -> str:
        """The text of the answer; empty after an error."""
        return self.result.text if self.result else ""


def ask_windows(
    vlm: VLM,
    source: VideoSource | Video,
    question: str | TaskRequest,
    options: Options | None = None,
    *,
    seconds: float = WINDOW_SECONDS,
) -> Generator[WindowAnswer]:
    """Ask about each window of a long video, and yield the answers, then a summary of them.

    Tasks and other requests with a schema have no summary, and neither has a video of one window.

    Args:
        vlm: The model.
        source: A path, bytes, an open file, or a ``vlrun.Video`` whose ``start`` and ``end`` limit the whole; its other
            options are for each window.
        question: The question, or a task request.
        options: The options of each answer.
        seconds: Length of a window.

    Raises:
        MediaError: The video cannot be used.
        VlrunError: As ``VLM.ask``.
    """
    has_method("chat", "a vlrun.VLM")("vlm", vlm)
    if not isinstance(question, TaskRequest):
        question = TaskRequest(instance(str, "a text or a vlrun.TaskRequest")("question", question))
    given = optional(instance(Options))("options", options) or Options()
    seconds = number("seconds", seconds)
    if not (math.isfinite(seconds) and seconds >= MIN_WINDOW_SECONDS):
        raise OptionError(f"seconds must be a number of at least {MIN_WINDOW_SECONDS:g}, not {seconds}")
    parts = windows_of(PendingClip(source if isinstance(source, Video) else Video(source)), seconds)
    vlm.grammar(question.options(given))  # raises OptionError
    return _ask_windows(vlm, parts, question, given)


def _ask_windows(
    vlm: VLM, parts: Iterator[PendingClip], request: TaskRequest, options: Options
) -> Generator[WindowAnswer]:
    summary = Summary(vlm, request, options)
    for part in parts:
        start, end = span_of(part)
        try:
            result = answer_window(vlm, part, request, options)
        except MediaError as error:
            yield WindowAnswer(start, end, None, error)
            continue
        summary.add(start, end, result.text)
        yield WindowAnswer(start, end, result)
    if (whole := summary.finish()) is not None:
        yield whole


def windows_of(video: PendingClip, seconds: float = WINDOW_SECONDS) -> Iterator[PendingClip]:
    """Return the windows of a video, from its ``start`` to its ``end``, in which there is a frame."""
    begin = video.video.start or 0.0
    end = min(video.info.duration, math.inf if video.video.end is None else video.video.end)
    count = max(math.ceil((end - begin) / seconds - LEAST_REST), 1)
    starts = (begin + index * seconds for index in range(count))
    spans = ((start, end if index == count else start + seconds) for index, start in enumerate(starts, 1))
    return (video.part(*span) for span in spans if video.has_frame(*span))


def span_of(part: PendingClip) -> tuple[float, float]:
    """Return the seconds where a window begins and ends."""
    return part.video.start or 0.0, part.info.duration if part.video.end is None else part.video.end


def answer_window(vlm: VLM, part: PendingClip, request: TaskRequest, options: Options) -> TaskResult:
    """Answer a request about a window. Its frames are in memory only so long. Raises as ``VLM.ask``."""
    effective = request.options(options)
    return answer_request(vlm, [vlm.builder.open_clip(part, effective, vlm.known_context)], request, options)


def clock(seconds: float) -> str:
    """Return a time of a video as people write it: 1:05, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class _Part:
    start: float
    end: float
    text: str


class Summary:
    """Summarises the answers about windows while they come: ``GROUP`` of them at a time, and so on with the summaries.

    Args:
        vlm: The model.
        request: What was asked.
        options: The options of the answers.

    Attributes:
        count: Number of answers.
    """

    def __init__(self, vlm: VLM, request: TaskRequest, options: Options) -> None:
        self.count = 0
        self._vlm = vlm
        self._request = request
        self._options = request.options(options)
        self._question = request.questions()[0]
        self._levels: list[list[_Part]] = []
        self._wanted = self._options.schema is None and request.tiles is None

    def add(self, start: float, end: float, text: str) -> None:
        """Add the answer about a window."""
        self.count += 1
        if self._wanted:
            self._add(_Part(start, end, text), 0)

    def finish(self) -> WindowAnswer | None:
        """Return the summary of all; None if there is nothing to summarise."""
        parts = [part for level in reversed(self._levels) for part in level]
        if len(parts) < 2:
            return None
        return WindowAnswer(parts[0].start, parts[-1].end, self._summarise(parts), summary=True)

    def _add(self, part: _Part, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        parts = self._levels[level]
        if len(parts) == GROUP:
            summarised = _Part(parts[0].start, parts[-1].end, self._summarise(parts).text)
            parts.clear()
            self._add(summarised, level + 1)
        parts.append(part)

    def _summarise(self, parts: Sequence[_Part]) -> TaskResult:
        answers = "\n".join(
            f"[{clock(part.start)}-{clock(part.end)}] {' '.join(part.text.split())[:MAX_PART_CHARACTERS]}"
            for part in parts
        )
        language = self._request.language or language_of(self._question)
        text = SUMMARY[language].format(question=self._question, answers=answers)
        return self._request.result_of(last_of(self._vlm.stream([], text, self._options, system=self._request.system)))
