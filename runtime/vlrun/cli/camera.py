"""``vlrun ask --camera``: the same questions about a camera, again and again, until Ctrl+C."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from vlrun.cli.images import ImageOptions
from vlrun.cli.output import NotePrinter, as_dict, print_json_object, print_text
from vlrun.cli.progress_line import timed
from vlrun.cli.terminal import print_note
from vlrun.errors import AnswerCutShort, InvalidAnswer, OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.cli.ask import OutputOptions
    from vlrun.cli.options import ModelOptions
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.cli.repeat_options import RepeatOptions
    from vlrun.media.camera import CameraFrame
    from vlrun.media.image import Image
    from vlrun.storage.row_log import RowLog
    from vlrun.tasks.request import TaskRequest
    from vlrun.types.options import Options
    from vlrun.vlm import VLM


def camera_questions(words: Sequence[str], questions: Sequence[str]) -> list[str | None]:
    """Return the questions of a command without images. Raises OptionError."""
    asked = [*questions] or [*words]
    if len(words) > (0 if questions else 1):
        raise OptionError("--camera takes no images, only a question")
    if any(not question.strip() for question in asked):
        raise OptionError("the question is empty; leave it out to get a description")
    return [*asked] or [None]


def ask_camera(
    repeat: RepeatOptions,
    requests: Sequence[TaskRequest],
    image_options: ImageOptions,
    output: OutputOptions,
    options: Options,
    model_options: ModelOptions,
) -> None:
    """Ask all questions about frames of a camera, and write a row for each answer.

    Raises:
        VlrunError: The camera cannot be opened. With a limit, also of the kind of the first frame without an answer.
    """
    from vlrun.media.camera import Camera
    from vlrun.media.camera_source import parse_camera
    from vlrun.storage.row_log import RowLog

    _check(requests, image_options, output)
    source = parse_camera(repeat.camera)
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(model_options.progress_line())
        log = stack.enter_context(RowLog(output.answer_file, "time")) if output.answer_file else None
        watching = _Watching(requests, image_options, output, options, source.name, line, log)
        opened = stack.enter_context(Camera(source.url, watching.interrupted))
        no_disk = replace(model_options.cache, kv_disk=0)  # no frame comes twice
        vlm = replace(model_options, cache=no_disk).load(line)
        for request in requests:
            vlm.grammar(request.options(options))  # raises OptionError
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
    with contextlib.suppress(KeyboardInterrupt):
        vlm.close()
    if watching.first_error:
        raise watching.first_error


def _check(requests: Sequence[TaskRequest], image_options: ImageOptions, output: OutputOptions) -> None:
    """Check the options before the camera is opened. Raises OptionError."""
    if output.draw or output.heatmap or output.heatmap_word is not None or output.stats:
        raise OptionError("--draw, --heatmap and --stats are for one question: leave them out with --camera")
    if image_options.pages or image_options.clipboard:
        raise OptionError("--camera takes no images: leave out --pages and --clipboard")
    image_options.video.check_used([])
    for request in requests:
        request.check_image_count(1)


@dataclass
class _Watching:
    """What all frames share, and what was answered. Interruptions are reported from another thread."""

    requests: Sequence[TaskRequest]
    image_options: ImageOptions
    output: OutputOptions
    options: Options
    name: str
    line: ProgressLine
    log: RowLog | None
    answered: int = 0
    latest: str = ""
    first_error: VlrunError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.notes = NotePrinter(line=self.line)

    def ask(self, vlm: VLM, frame: CameraFrame) -> None:
        """Ask all questions about a frame. An answer that is not valid is an error of that frame only."""
        self.notes(vlm.notes)
        image = self.image_options.apply(frame.image)
        for request in self.requests:
            try:
                row = self._answer(vlm, image, request)
                self.answered += 1
            except (InvalidAnswer, AnswerCutShort) as error:
                row = {"error": str(error), **({"question": request.question} if request.question else {})}
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
        target = f" in '{self.output.answer_file}'" if self.log else ""
        if self.latest:
            print_note(f"{self.answered} answers about '{self.name}'{target}")

    def _answer(self, vlm: VLM, image: Image, request: TaskRequest) -> dict[str, object]:
        from vlrun.tasks.run import answer_request

        result = answer_request(vlm, [image], request, self.options)
        self.notes(result.notes)
        if result.finish_reason != "stop" and request.options(self.options).schema is not None:
            raise AnswerCutShort("the answer was cut short before its JSON was complete: raise --max-tokens")
        return as_dict(result, vlm.manifest.name, request.question, self.output.show_thinking)

    def _put(self, moment: datetime, members: dict[str, object]) -> None:
        """Write a row to the file, or print it. Errors are also printed to stderr."""
        row = {"time": moment.isoformat(timespec="milliseconds"), "camera": self.name, **members}
        with self.lock, self.line.paused():
            if "error" in row:
                print_note(str(row["error"]))
            if self.log:
                self.log.append(row)
            elif self.output.as_json:
                print_json_object(row)
            elif "answer" in row:
                print_text(f"{moment:%Y-%m-%d %H:%M:%S}  {row['answer']}")
