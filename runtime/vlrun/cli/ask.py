"""``vlrun ask``: answers questions about images. Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.answer_file import stdout_to
from vlrun.cli.answer_progress import AnswerProgress
from vlrun.cli.arguments import is_file, split_arguments
from vlrun.cli.images import (
    ImageOptions,
    LoadedImage,
    as_image,
    image_notes,
    image_parts,
    load_images,
    read_image_headers,
    with_image_options,
    without_image_notes,
)
from vlrun.cli.option_groups import OptionTable, option_group
from vlrun.cli.options import (
    SHOW_THINKING,
    ModelOptions,
    TaskOptions,
    with_answer_options,
    with_model_options,
    with_task_options,
)
from vlrun.cli.output import (
    NotePrinter,
    format_stats,
    print_json,
    print_notes,
    print_stream,
    print_text,
    shows_thinking,
    stdout_is_file,
    with_notes,
    with_reasoning_note,
    write_drawing,
    write_heat_map,
)
from vlrun.cli.parameter_types import FILE, NAME, TEXT_OR_FILE
from vlrun.cli.repeat_options import REPEAT_OPTIONS, RepeatOptions
from vlrun.cli.repeated import Repeated, close_model, incomplete_json
from vlrun.cli.terminal import print_error, print_note
from vlrun.errors import AnswerCutShort, InvalidAnswer, OptionError

if TYPE_CHECKING:
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.media.clip import Clip
    from vlrun.media.pending_image import PendingMedia
    from vlrun.media.video import PendingClip, Progress
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

STDOUT = Path("-")
_FILE = {"type": FILE, "metavar": "FILE"}
OUTPUT_OPTIONS: OptionTable = {
    "output": {**_FILE, "aliases": ("-o",), "help": "Write the answers to a new file; - is stdout."},
    "draw": {**_FILE, "help": "Write the image with the answer's boxes and points."},
    "heatmap": {**_FILE, "help": "Write the image with the answer's attention."},
    "heatmap_word": {"type": NAME, "metavar": "TEXT", "help": "Restrict the heat map to TEXT of the answer."},
    "stats": {"is_flag": True, "help": "Print timings, tokens, memory and settings to stderr."},
    "as_json": {"option": "json", "is_flag": True, "help": "Print each answer as one JSON object."},
}


@dataclass(frozen=True)
class OutputOptions:
    """The values of ``OUTPUT_OPTIONS`` and ``SHOW_THINKING``."""

    output: Path | None = None
    draw: Path | None = None
    heatmap: Path | None = None
    heatmap_word: str | None = None
    stats: bool = False
    as_json: bool = False
    show_thinking: bool = True

    @property
    def answer_file(self) -> Path | None:
        """The file for the answers; None for stdout."""
        return None if self.output == STDOUT else self.output

    def check_count(self, images: int, questions: int) -> None:
        """Raise OptionError if an image is to be drawn on, and it is not the only one."""
        if (self.draw or self.heatmap) and (images, questions) != (1, 1):
            raise OptionError("--draw and --heatmap take one image and one question")

    def check_kind(self, pending: Sequence[PendingMedia]) -> None:
        """Raise OptionError if something is to be drawn on a video."""
        from vlrun.media.video import PendingClip

        if (self.draw or self.heatmap) and any(isinstance(one, PendingClip) for one in pending):
            raise OptionError("--draw and --heatmap are for images, not for videos")

    def check(self, images: Sequence[str], requests: Sequence[TaskRequest]) -> None:
        """Check the options before the model runs. Raises OptionError, or OutputError for a target file."""
        from vlrun.media.output_file import check_target
        from vlrun.media.sources import local_path

        self.check_count(len(images), len(requests))
        drawings = [target for target in (self.draw, self.heatmap) if target is not None]
        targets = [*drawings, *([self.answer_file] if self.answer_file else [])]
        if self.heatmap_word is not None and not self.heatmap:
            raise OptionError("--heatmap-word needs --heatmap")
        if self.heatmap and not requests[0].is_single:
            raise OptionError("--heatmap needs one answer: leave out --tiles, --votes and --steps")
        for target in drawings:
            check_target(target)
        files = [local_path(name) for name in images if is_file(name)]
        for one, other in itertools.combinations([*targets, *files], 2):
            if one in targets and one.resolve() == other.resolve():
                raise OptionError(f"'{one}' would be overwritten: choose another name for the output")


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, type=TEXT_OR_FILE, metavar="IMAGE... [QUESTION]")
@click.option("-q", "--question", multiple=True, help="A question; may be repeated. All arguments are then images.")
@option_group("repeat", REPEAT_OPTIONS, RepeatOptions)
@with_task_options
@with_image_options
@option_group("output", {**OUTPUT_OPTIONS, **SHOW_THINKING}, OutputOptions)
@with_answer_options
@with_model_options
def ask(
    words: tuple[str, ...],
    question: tuple[str, ...],
    repeat: RepeatOptions,
    task_options: TaskOptions,
    image_options: ImageOptions,
    output: OutputOptions,
    options: Options,
    model_options: ModelOptions,
) -> None:
    """Ask a QUESTION about all IMAGEs together (default: describe them).

    IMAGE is a file (also a PDF or a video), an https URL, or - for stdin. The last argument is the question, unless it
    is a file. Examples: docs/asking.md. With --each, IMAGE is also a folder or a pattern; --output FILE.jsonl or
    FILE.csv can then be continued. --camera asks about frames of a camera until Ctrl+C.
    """
    if repeat.camera is not None:
        from vlrun.cli.camera import ask_camera, camera_questions

        requests = [task_options.request(question) for question in camera_questions(words, question)]
        ask_camera(repeat, Repeated(requests, image_options, output, options, model_options))
        return
    names, questions = split_arguments(words, question, folders=repeat.each, clipboard=image_options.clipboard)
    requests = [task_options.request(question) for question in questions]
    asked = Repeated(requests, image_options, output, options, model_options)
    if repeat.each:
        from vlrun.cli.each import ask_each

        ask_each(names, repeat.recursive, asked)
        return
    if repeat.window is not None:
        from vlrun.cli.windows import ask_windows

        ask_windows(names, repeat.window, asked)
        return
    output.check(names, requests)
    with stdout_to(output.answer_file) as save, model_options.progress_line() as line:
        pending = read_image_headers(names, image_options)
        output.check_count(len(pending), len(requests))
        output.check_kind(pending)
        for request in requests:
            request.check_image_count(len(pending))
        asking = _Asking.begin(pending, requests, image_options, options, output, model_options, line)
        cut: AnswerCutShort | None = None
        for number, request in enumerate(requests):
            if len(requests) > 1 and not output.as_json:
                print_text(f"{chr(10) if number else ''}{questions[number]}")
            try:
                cut = asking.answer(request) or cut
            finally:
                if not isinstance(sys.exception(), KeyboardInterrupt):  # which leaves half an answer
                    save()
    close_model(asking.vlm)
    if cut:
        raise cut


@dataclass(frozen=True)
class _Asking:
    """What all questions of a command share."""

    vlm: VLM
    images: Sequence[LoadedImage]
    options: Options
    output: OutputOptions
    model_options: ModelOptions
    progress: AnswerProgress

    @classmethod
    def begin(
        cls,
        pending: Sequence[PendingMedia],
        requests: Sequence[TaskRequest],
        image_options: ImageOptions,
        options: Options,
        output: OutputOptions,
        model_options: ModelOptions,
        line: ProgressLine,
    ) -> _Asking:
        """Start loading the model, and decode the images meanwhile. Of their pixels only what is needed is kept."""
        from vlrun.prompt.builder import clip_count

        request, *others = requests
        options = replace(options, heatmap=output.heatmap is not None, progress=line.active)
        effective = request.options(options)
        began = time.monotonic()
        vlm = model_options.load(line, keep_vision_encoder=bool(others) or not request.is_single)
        if image_options.region is None:
            vlm.builder.check_pending(pending, effective, vlm.known_context)

        among = clip_count(pending)

        def open_clip(clip: PendingClip, progress: Progress) -> Clip:
            return vlm.builder.open_clip(clip, effective, vlm.known_context, progress, among)

        if output.heatmap or request.tiles:
            images = load_images(pending, image_options, line, keep_original=bool(output.draw), open_clip=open_clip)
        else:
            seen = partial(vlm.builder.resize, options=effective, detail=effective.detail)
            shown = partial(vlm.builder.shown_size, options=effective, detail=effective.detail)
            as_given = image_options.region is None and not image_options.enhance and not output.draw
            images = load_images(
                pending,
                image_options,
                line,
                seen,
                keep_original=bool(output.draw),
                shown=shown if as_given else None,
                open_clip=open_clip,
            )
        progress = AnswerProgress(line, vlm, str(model_options.hints), began)
        return cls(vlm, images, options, output, model_options, progress)

    def answer(self, request: TaskRequest) -> AnswerCutShort | None:
        """Ask one question and print all output. Returns the error to raise after the last question."""
        from vlrun.perf.history import record
        from vlrun.perf.profile import SpeedProfile

        notes = NotePrinter(image_notes(self.images), self.progress.line)
        result, output = self._run(request, notes), self.output
        if output.as_json:
            print_json(result, self.vlm.manifest.name, request.question, output.show_thinking)
        print_notes(result, notes)
        answer = result.answers[-1]
        if output.draw:
            write_drawing(result, self.images[0].original or as_image(self.images[0]), output.draw)
        if output.heatmap:
            write_heat_map(answer, as_image(self.images[0]), output.heatmap_word, output.heatmap)
        if output.stats:
            model = self.model_options.model.describe(self.vlm.manifest.name)
            print_error(format_stats(result.answers, model, self.vlm.settings))
        if len(result.answers) == 1:
            measured = SpeedProfile.from_answer(answer, self.vlm.image_encoder.seconds)
            record(self.vlm.fingerprint, str(self.model_options.hints), measured)
        if result.finish_reason != "stop" and request.options(self.options).schema is None:
            print_note(f"the answer was cut short ({result.finish_reason})")
        return incomplete_json(result, request, self.options)

    def _run(self, request: TaskRequest, notes: NotePrinter) -> TaskResult:
        """Run a request; unless the output is JSON, print the text, streamed if possible."""
        from vlrun.tasks.run import run_task

        self.progress.preparing()
        streamed = request.is_single and not request.has_total and not self.output.as_json
        if request.is_single:
            result = self._run_single(request, notes, streamed)
        else:
            options = request.options(self.options)
            self.vlm.grammar(options)
            self._print_device_notes()
            self.progress.answering(request.answer_count)
            inputs = [loaded.image for loaded in self.images]
            result = run_task(self.vlm, inputs, request, replace(self.options, progress=False), notes)
            self.progress.line.clear()
        result = replace(result, notes=without_image_notes(with_reasoning_note(result), self.images))
        if not streamed and not self.output.as_json:
            print_text(result.text)
        return result

    def _run_single(self, request: TaskRequest, notes: NotePrinter, streamed: bool) -> TaskResult:
        """Run a request with one answer, and print its text if it is ``streamed``."""
        from vlrun.types.answer import last_of

        vlm, output, options = self.vlm, self.output, request.options(self.options)
        (question,) = request.questions()
        inputs = [loaded.image for loaded in self.images]
        turn = vlm.builder.question_turn(inputs, question, options, vlm.known_context)
        stream = vlm.chat([*request.opening(), turn], options)
        self._print_device_notes()
        chunks = self.progress.watch(
            stream,
            sum(image_parts(one) for one in inputs),
            video=len(inputs) == 1 and image_parts(inputs[0]) > 1,
            text_shown=streamed and output.answer_file is None and not stdout_is_file(),
            thinking_shown=streamed and shows_thinking(output.show_thinking),
        )
        try:
            if streamed:
                return request.result_of(print_stream(chunks, notes, output.show_thinking))
            return request.result_of(last_of(with_notes(chunks, notes)))
        except InvalidAnswer as error:
            if output.as_json:
                result = request.result_of(error.answer)
                print_json(result, vlm.manifest.name, request.question, output.show_thinking)
            else:
                print_text("" if streamed else error.answer.text)
            raise

    def _print_device_notes(self) -> None:
        with self.progress.line.paused():
            for note in self.vlm.notes:
                print_note(note)
