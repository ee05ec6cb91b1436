"""``vlrun ask``: answers questions about images. Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.arguments import split_arguments
from vlrun.cli.images import (
    ImageOptions,
    LoadedImage,
    image_notes,
    open_images,
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
    with_notes,
    write_drawing,
    write_heat_map,
)
from vlrun.cli.parameter_types import FILE, NAME
from vlrun.cli.terminal import print_error, print_note
from vlrun.errors import AnswerCutShort, InvalidAnswer, OptionError

if TYPE_CHECKING:
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

_FILE = {"type": FILE, "metavar": "FILE"}
OUTPUT_OPTIONS: OptionTable = {
    "draw": {**_FILE, "help": "Write the image with the answer's boxes and points."},
    "heatmap": {**_FILE, "help": "Write the image with the answer's attention."},
    "heatmap_word": {"type": NAME, "metavar": "TEXT", "help": "Restrict the heat map to TEXT of the answer."},
    "stats": {"is_flag": True, "help": "Print timings, tokens, memory and settings to stderr."},
    "as_json": {"option": "json", "is_flag": True, "help": "Print each answer as one JSON object."},
}


@dataclass(frozen=True)
class OutputOptions:
    """The values of ``OUTPUT_OPTIONS`` and ``SHOW_THINKING``."""

    draw: Path | None = None
    heatmap: Path | None = None
    heatmap_word: str | None = None
    stats: bool = False
    as_json: bool = False
    show_thinking: bool = True

    def check(self, images: Sequence[str], requests: Sequence[TaskRequest]) -> None:
        """Check the options before the model runs. Raises OptionError, or OutputError for a target file."""
        from vlrun.media.output_file import check_target
        from vlrun.media.sources import local_path

        targets = [target for target in (self.draw, self.heatmap) if target is not None]
        if self.heatmap_word is not None and not self.heatmap:
            raise OptionError("--heatmap-word needs --heatmap")
        if targets and (len(images) != 1 or len(requests) != 1):
            raise OptionError("--draw and --heatmap take one image and one question")
        if self.heatmap and not requests[0].is_single:
            raise OptionError("--heatmap needs one answer: leave out --tiles, --votes and --steps")
        for target in targets:
            check_target(target)
        files = [local_path(name) for name in images if name != "-"]
        for one, other in itertools.combinations([*targets, *files], 2):
            if one in targets and one.resolve() == other.resolve():
                raise OptionError(f"'{one}' would be overwritten: choose another name for --draw or --heatmap")


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... [QUESTION]")
@click.option("-q", "--question", multiple=True, help="A question; may be repeated. All arguments are then images.")
@with_task_options
@with_image_options
@option_group("output", {**OUTPUT_OPTIONS, **SHOW_THINKING}, OutputOptions)
@with_answer_options
@with_model_options
def ask(
    words: tuple[str, ...],
    question: tuple[str, ...],
    task_options: TaskOptions,
    image_options: ImageOptions,
    output: OutputOptions,
    options: Options,
    model_options: ModelOptions,
) -> None:
    """Ask a QUESTION about all IMAGEs together (default: describe them).

    IMAGE is a file, or - for stdin. The last argument is the question, unless it is a file. Examples: docs/asking.md.
    """
    names, questions = split_arguments(words, question)
    requests = [task_options.request(question) for question in questions]
    output.check(names, requests)
    for request in requests:
        request.check_image_count(len(names))
    images = open_images(names, image_options)
    vlm = model_options.load()
    cut: AnswerCutShort | None = None
    for number, request in enumerate(requests):
        if len(requests) > 1 and not output.as_json:
            print_text(f"{chr(10) if number else ''}{questions[number]}")
        cut = _answer(vlm, images, request, options, output, str(model_options.hints)) or cut
    with contextlib.suppress(KeyboardInterrupt):  # close() may still write image prefixes to disk
        vlm.close()
    if cut:
        raise cut


def _answer(
    vlm: VLM, images: Sequence[LoadedImage], request: TaskRequest, options: Options, output: OutputOptions, hints: str
) -> AnswerCutShort | None:
    """Ask one question and print all output. Returns the error to raise after the last question."""
    from vlrun.perf.history import record
    from vlrun.perf.profile import SpeedProfile

    notes = NotePrinter(image_notes(images))
    result = _run(vlm, images, request, replace(options, heatmap=output.heatmap is not None), output, notes)
    if output.as_json:
        print_json(result, vlm.manifest.name, request.question, output.show_thinking)
    print_notes(result, notes)
    answer = result.answers[-1]
    if output.draw:
        write_drawing(result, images[0].original, output.draw)
    if output.heatmap:
        write_heat_map(answer, images[0].image, output.heatmap_word, output.heatmap)
    if output.stats:
        print_error(format_stats(result.answers, vlm.settings))
    if len(result.answers) == 1:
        record(vlm.fingerprint, hints, SpeedProfile.from_answer(answer, vlm.vision_seconds))
    if result.finish_reason == "stop":
        return None
    if request.options(options).schema is None:
        print_note(f"the answer was cut short ({result.finish_reason})")
        return None
    if result.finish_reason == "repetition":
        return AnswerCutShort("the answer repeated itself before its JSON was complete")
    return AnswerCutShort("the answer was cut short before its JSON was complete: raise --max-tokens")


def _run(
    vlm: VLM,
    images: Sequence[LoadedImage],
    request: TaskRequest,
    options: Options,
    output: OutputOptions,
    notes: NotePrinter,
) -> TaskResult:
    """Run a request; unless the output is JSON, print the text, streamed if possible."""
    from vlrun.tasks.run import run_task
    from vlrun.types.answer import last_of

    inputs = [loaded.image for loaded in images]
    streamed = request.is_single and not request.has_total and not output.as_json
    if request.is_single:
        (question,) = request.questions()
        chunks = vlm.stream(inputs, question, request.options(options))
        _print_device_notes(vlm)
        try:
            answer = (
                print_stream(chunks, notes, output.show_thinking) if streamed else last_of(with_notes(chunks, notes))
            )
            result = request.result_of(answer)
        except InvalidAnswer as error:
            if output.as_json:
                result = request.result_of(error.answer)
                print_json(result, vlm.manifest.name, request.question, output.show_thinking)
            else:
                print_text("" if streamed else error.answer.text)
            raise
    else:
        vlm.grammar(request.options(options))
        _print_device_notes(vlm)
        result = run_task(vlm, inputs, request, options, notes)
    if not streamed and not output.as_json:
        print_text(result.text)
    return replace(result, notes=without_image_notes(result.notes, images))


def _print_device_notes(vlm: VLM) -> None:
    for note in vlm.notes:
        print_note(note)
