"""``vlrun ask --camera``: the same questions about a camera, again and again, until Ctrl+C."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from vlrun.cli.output import NotePrinter
from vlrun.cli.progress_line import timed
from vlrun.cli.repeated import Repeated, RowPrinter, close_model
from vlrun.cli.terminal import print_note
from vlrun.errors import OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.cli.repeat_options import RepeatOptions
    from vlrun.media.camera import CameraFrame
    from vlrun.storage.row_log import RowLog
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.vlm import VLM


def camera_questions(words: Sequence[str], questions: Sequence[str]) -> list[str | None]:
    """Return the questions of a command without images. Raises OptionError."""
    asked = [*questions] or [*words]
    if len(words) > (0 if questions else 1):
        raise OptionError("--camera takes no images, only a question")
    if any(not question.strip() for question in asked):
        raise OptionError("the question is empty; leave it out to get a description")
    return [*asked] or [None]


def ask_camera(repeat: RepeatOptions, asked: Repeated) -> None:
    """Ask all questions about frames of a camera, and write a row for each answer.

    Raises:
        VlrunError: The camera cannot be opened. With a limit, also of the kind of the first frame without an answer.
    """
    from vlrun.media.camera import Camera
    from vlrun.media.camera_source import parse_camera
    from vlrun.storage.row_log import RowLog

    asked.check("--camera")
    if asked.image_options.pages or asked.image_options.clipboard:
        raise OptionError("--camera takes no images: leave out --pages and --clipboard")
    asked.image_options.video.check_used([])
    source = parse_camera(repeat.camera)
    with asked.opened(partial(RowLog, first="time")) as (line, log), contextlib.ExitStack() as stack:
        watching = _Watching(asked, source.name, line, log)
        opened = stack.enter_context(Camera(source.url, watching.interrupted))
        no_disk = replace(asked.model_options.cache, kv_disk=0)  # no frame comes twice
        vlm = replace(asked.model_options, cache=no_disk).load(line)
        for request in asked.requests:
            vlm.grammar(request.options(asked.options))  # raises OptionError
        line.show(timed(f"waiting for {source.name}", None, time.monotonic()))
        try:
            frames = stack.enter_context(contextlib.closing(opened.frames(repeat.seconds, on_change=repeat.on_change)))
            for number, frame in enumerate(frames, 1):
                watching.ask(vlm, frame)
                if number == repeat.limit:
                    break
        finally:
            line.clear()
            watching.print_summary()
    close_model(vlm)
    if watching.first_error:
        raise watching.first_error


@dataclass
class _Watching:
    """What all frames share, and what was answered. Interruptions are reported from another thread."""

    asked: Repeated
    name: str
    line: ProgressLine
    log: RowLog | None
    answered: int = 0
    latest: str = ""
    first_error: VlrunError | None = None

    def __post_init__(self) -> None:
        self.notes = NotePrinter(line=self.line)
        self.printer = RowPrinter(self.asked.output, self.line, self.log)

    def ask(self, vlm: VLM, frame: CameraFrame) -> None:
        """Ask all questions about a frame. An answer that is not valid is an error of that frame only."""
        from vlrun.tasks.run import answer_request

        self.notes(vlm.notes)
        image = self.asked.image_options.apply(frame.image)
        for request in self.asked.requests:

            def answer(request: TaskRequest = request) -> TaskResult:
                result = answer_request(vlm, [image], request, self.asked.options)
                self.notes(result.notes)
                return result

            row, error = self.asked.answered(vlm, request, answer)
            self.answered += error is None
            self.first_error = self.first_error or error
            self._put(frame.time, row)
        self.latest = f"{frame.time:%H:%M:%S}"
        self.line.show(self.describe)

    def interrupted(self, error: VlrunError) -> None:
        """Report that the camera failed, in the thread that reads it."""
        self._put(datetime.now().astimezone(), {"error": f"{error}; trying again until it works"})

    def describe(self) -> str:
        """Return the text of the progress line."""
        return f"{self.name}: {self.answered} answers, the last one about {self.latest}"

    def print_summary(self) -> None:
        """Print how much was answered, at the end."""
        target = f" in '{self.asked.output.answer_file}'" if self.log else ""
        if self.latest:
            print_note(f"{self.answered} answers about '{self.name}'{target}")

    def _put(self, moment: datetime, members: dict[str, object]) -> None:
        row = {"time": moment.isoformat(timespec="milliseconds"), "camera": self.name, **members}
        text = f"{moment:%Y-%m-%d %H:%M:%S}  {row.get('answer')}"
        self.printer.put(row, str(row.get("error", text)))
