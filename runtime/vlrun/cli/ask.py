"""``vlrun ask``: questions about one image or several. The answers go to stdout, all else to stderr.

Knows click and words for people; everything heavy is imported when the command runs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vlrun.cli import options as option
from vlrun.cli import output as report
from vlrun.cli.images import ImageOptions, LoadedImage, focus, open_images, untold
from vlrun.cli.option_groups import grouped
from vlrun.errors import AnswerCutShort, OptionError

if TYPE_CHECKING:
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

R = TypeVar("R")

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .mpo .heic .heif .avif .svg .pdf .psd".split()
)
"""What a missing image's name ends in, so that a typing error is told as such and not taken for a question."""

DEMO = "vlrun: no --model given, so the tiny embedded demo model answers; it knows only its own world"


_OUTPUT: Mapping[str, Mapping[str, Any]] = {
    "draw": {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "The image with the answer's boxes."},
    "heatmap": {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "What the answer looked at."},
    "heatmap_word": {"metavar": "TEXT", "help": "What one word of the answer looked at."},
    "stats": {"is_flag": True, "help": "Print times, tokens and peak memory to stderr."},
    "as_json": {"option": "json", "is_flag": True, "help": "Print one JSON object an answer."},
}


@dataclass(frozen=True)
class Output:
    """What is to come of an answer beside its text."""

    draw: Path | None = None
    heatmap: Path | None = None
    heatmap_word: str | None = None
    stats: bool = False
    as_json: bool = False

    def check(self, images: Sequence[str], inquiries: Sequence[TaskRequest]) -> None:
        """Find out before the model works. Raises OptionError, or OutputError for a file that cannot be written."""
        from vlrun.media.output_file import check_target

        targets = [target for target in (self.draw, self.heatmap) if target is not None]
        if self.heatmap_word is not None and not self.heatmap:
            raise OptionError("--heatmap-word chooses a word of the heat map: give --heatmap too")
        if targets and (len(images) != 1 or len(inquiries) != 1):
            raise OptionError("--draw and --heatmap take one image and one question")
        if self.heatmap and not inquiries[0].plain:
            raise OptionError("--heatmap shows one answer: leave out --tiles, --votes and --steps")
        for target in targets:
            check_target(target)
        for one, other in itertools.combinations([*targets, *map(Path, images)], 2):
            if one in targets and one.resolve() == other.resolve():
                raise OptionError(f"'{one}' would be overwritten: --draw and --heatmap need names of their own")


def output(command: Callable[..., R]) -> Callable[..., R]:
    """Add the kinds of output to a command, which receives them as ``output``."""
    return grouped(command, "output", _OUTPUT, lambda given: Output(**given))


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... [QUESTION]")
@click.option("-q", "--question", multiple=True, help="A question; every word is then an image. May be repeated.")
@option.asking
@focus
@output
@option.sampling
@option.loading
def ask(
    words: tuple[str, ...],
    question: tuple[str, ...],
    asking: option.TaskOptions,
    focus: ImageOptions,
    output: Output,
    options: Options,
    loading: option.ModelOptions,
) -> None:
    """Ask a QUESTION about each IMAGE together (default: describe).

    IMAGE is a file, or - for stdin. The last word is the question, unless it names a file. docs/asking.md has examples.
    """
    names, questions = split(words, question)
    from vlrun.tasks.request import check_images

    inquiries = [asking.inquiry(question) for question in questions]
    output.check(names, inquiries)
    for inquiry in inquiries:
        check_images(inquiry, len(names))
    shown = open_images(names, focus)
    if loading.model is None:
        click.echo(DEMO, err=True)
    vlm = loading.load()
    cut: AnswerCutShort | None = None
    for number, inquiry in enumerate(inquiries):
        if len(inquiries) > 1 and not output.as_json:
            report.print_text(f"{chr(10) if number else ''}{questions[number]}")
        cut = _answer(vlm, shown, inquiry, options, output, str(loading.hints)) or cut
    with contextlib.suppress(KeyboardInterrupt):  # all is said; the image's prefix may still be on its way to the disk
        vlm.close()
    if cut:
        raise cut


def split(words: Sequence[str], questions: Sequence[str] = ()) -> tuple[list[str], list[str | None]]:
    """Images and questions: without ``--question`` the last word is the question, unless it is -, a file, or one word
    that is named like an image.

    Raises OptionError without an image, or with an empty question.
    """
    images, asked = list(words), list(questions)
    if not asked and words and not _names_image(words[-1]):
        asked = [images.pop()]
    if any(not question.strip() for question in asked):
        raise OptionError("the question is empty; leave it out to have the image described")
    if not images:
        given = f": '{asked[0]}' is neither a file nor named like one" if asked else ""
        raise OptionError(f"no image given{given}")
    if images.count("-") > 1:
        raise OptionError("only one image can come from stdin")
    return images, [*asked] or [None]


def _answer(
    vlm: VLM, shown: Sequence[LoadedImage], inquiry: TaskRequest, options: Options, output: Output, hints: str
) -> AnswerCutShort | None:
    """Ask once, and tell all that was wanted of it; what is to be raised in the end."""
    from vlrun.perf import profile as speed

    result = _result(vlm, shown, inquiry, replace(options, heatmap=output.heatmap is not None), output)
    if output.as_json:
        report.print_json(result, vlm.manifest.name, inquiry.question)
    report.tell(result)
    answer = result.answers[-1]
    if output.draw:
        report.draw(result, shown[0], output.draw)
    if output.heatmap:
        report.draw_heat(answer, shown[0], output.heatmap_word, output.heatmap)
    if output.stats:
        click.echo(report.stats(result.answers), err=True)
    if len(result.answers) == 1:
        speed.learn(vlm.fingerprint, hints, speed.of_answer(answer, vlm.vision_seconds))
    if result.finish_reason == "stop":
        return None
    if inquiry.options(options).schema is None:
        click.echo(f"vlrun: the answer was cut short ({result.finish_reason})", err=True)
        return None
    if result.finish_reason == "repetition":
        return AnswerCutShort("the answer went round in a circle before its JSON was complete")
    return AnswerCutShort("the answer was cut short before its JSON was complete: --max-tokens makes room for more")


def _result(
    vlm: VLM, shown: Sequence[LoadedImage], inquiry: TaskRequest, options: Options, output: Output
) -> TaskResult:
    """The answer, printed as it comes where it can be, or at the end, unless it is wanted as JSON."""
    from vlrun.tasks.request import finish, run_task, single
    from vlrun.types.answer import last_of

    images = [one.image for one in shown]
    streamed = inquiry.plain and not inquiry.summed and not output.as_json
    if inquiry.plain:
        (question,) = inquiry.questions()
        chunks = vlm.stream(images, question, inquiry.options(options))
        _tell_of(vlm)
        result = finish(single(report.print_stream(chunks) if streamed else last_of(chunks)), inquiry)
    else:
        vlm.grammar(inquiry.options(options))
        _tell_of(vlm)
        result = run_task(vlm, images, inquiry, options)
    if not streamed and not output.as_json:
        report.print_text(result.text)
    return replace(result, notes=untold(result.notes, shown))


def _tell_of(vlm: VLM) -> None:
    """What there is to say about the device."""
    for note in vlm.notes:
        click.echo(f"vlrun: {note}", err=True)


def _names_image(word: str) -> bool:
    if word == "-":
        return True
    try:
        path = Path(word)
        return path.is_file() or (path.suffix.lower() in IMAGE_SUFFIXES and not any(map(str.isspace, word)))
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False
