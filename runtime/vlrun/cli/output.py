"""Prints answers as text or JSON, with notes and statistics; writes images with marks or a heat map."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.terminal import print_note, printable

if TYPE_CHECKING:
    from vlrun.media.image import Image
    from vlrun.tasks.request import TaskResult
    from vlrun.types.answer import Answer, Chunk


ONLY_REASONING = "the model has written only its reasoning, and no answer"


class NotePrinter:
    """Prints notes to stderr, each of them once. Thread-safe.

    Args:
        printed: Notes that were printed already.
        line: The progress line, which must not be shown while a note is printed.
    """

    def __init__(self, printed: Iterable[str] = (), line: ProgressLine | None = None) -> None:
        self._printed = set(printed)
        self._line = line
        self._lock = threading.Lock()

    def skip(self, notes: Iterable[str]) -> None:
        """Remember notes that were printed elsewhere."""
        with self._lock:
            self._printed.update(notes)

    def __call__(self, notes: Iterable[str]) -> None:
        """Print the notes that are new."""
        with self._lock:
            for note in notes:
                if note not in self._printed:
                    self._printed.add(note)
                    with self._line.paused() if self._line else contextlib.nullcontext():
                        print_note(note)


def print_stream(chunks: Iterable[Chunk], notes: NotePrinter, show_thinking: bool = False) -> Answer:
    """Print the notes before the model runs and the text as it arrives, and return the answer.

    The reasoning goes to stderr, dimmed, if that is a terminal: stdout has the answer and nothing else.
    """
    _replace_unprintable()
    show_thinking = shows_thinking(show_thinking)
    thinking = False
    for chunk in with_notes(chunks, notes):
        if chunk.reasoning and show_thinking:
            click.echo(click.style(printable(chunk.reasoning), dim=True), nl=False, err=True)
            thinking = True
        if thinking and (chunk.text or chunk.answer):
            click.echo("\n", err=True)
            thinking = False
        click.echo(printable(chunk.text), nl=False)
        sys.stdout.flush()
        if chunk.answer is not None:
            click.echo()
            if chunk.answer.reasoning and not chunk.answer.text:
                print_note(ONLY_REASONING)
                notes.skip((ONLY_REASONING,))
            return chunk.answer
    raise RuntimeError("the stream ended without an answer")


def shows_thinking(wanted: bool) -> bool:
    """Return whether the reasoning is shown: it is for the user at the terminal."""
    return wanted and sys.stderr is not None and sys.stderr.isatty()


def stdout_is_file() -> bool:
    """Return whether stdout is a regular file, in which nobody sees the answer grow."""
    with contextlib.suppress(OSError, ValueError):
        return sys.stdout is not None and stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    return False


def with_reasoning_note(result: TaskResult) -> tuple[str, ...]:
    """Return the notes of a result, with one if the model has written only its reasoning."""
    only_reasoning = not result.text and any(answer.reasoning for answer in result.answers)
    return (*result.notes, ONLY_REASONING) if only_reasoning else result.notes


def with_notes(chunks: Iterable[Chunk], notes: NotePrinter) -> Iterator[Chunk]:
    """Print the notes of the first chunk, and pass on all chunks."""
    for chunk in chunks:
        notes(chunk.notes)
        yield chunk


def print_text(text: str) -> None:
    """Print a complete text."""
    _replace_unprintable()
    click.echo(printable(text))


def print_json(result: TaskResult, model: str, question: str | None, show_thinking: bool) -> None:
    """Print one JSON object. All control characters are escaped, so that they cannot control the terminal."""
    print_json_object(as_dict(result, model, question, show_thinking))


def print_json_object(members: Mapping[str, object]) -> None:
    """Print members as one JSON object in one line. Control characters are escaped."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(members, ensure_ascii=not is_utf8)
    click.echo(re.sub("[\x7f-\x9f\ud800-\udfff]", lambda control: f"\\u{ord(control[0]):04x}", text))


def print_notes(result: TaskResult, notes: NotePrinter) -> None:
    """Print reasoning, votes and the remaining notes to stderr."""
    for thought in result.reasoning:
        print_note(f"reasoning: {thought}")
    for number, tile in enumerate(result.vote_counts, 1):
        part = f" of part {number}" if len(result.vote_counts) > 1 else ""
        for path, counts in tile.items():
            votes = ", ".join(f"{value} x{count}" for value, count in sorted(counts.items(), key=lambda one: -one[1]))
            print_note(f"votes{part}{f' on {path}' if path else ''}: {votes}")
    notes(result.notes)


def write_drawing(result: TaskResult, original: Image, target: Path) -> None:
    """Draw boxes and points on the image and write it. Raises OutputError."""
    from vlrun.media.output_file import save_image
    from vlrun.tasks.drawing import draw_marks

    drawn = draw_marks(original, result.marks)
    save_image(drawn.image, target)
    if not result.marks:
        print_note("the answer has no boxes or points, so nothing is drawn on the image")
    for line in drawn.legend:
        print_note(line)


def write_heat_map(answer: Answer, image: Image, word: str | None, target: Path) -> None:
    """Overlay the image with the attention of the answer or of ``word``. Raises OptionError and OutputError."""
    from vlrun.heatmap.overlay import overlay_heat
    from vlrun.media.output_file import save_image

    if answer.heat is None or not answer.heat.token_texts:
        print_note("the answer is empty, so there is no heat map")
        return
    save_image(overlay_heat(image, answer.heat.mean(word)), target)


def format_stats(answers: Sequence[Answer], model: str, settings: str) -> str:
    """Format timings, tokens and peak memory of the last answer, and the model with its settings."""
    answer = answers[-1]
    times, usage = answer.timings, answer.usage
    tpot = f"{times.tpot * 1000:.1f} ms ({1 / times.tpot:.1f} tokens/s)" if times.tpot else "-"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # maximum resident set with mapped files
    thought = f" ({usage.reasoning_tokens} of reasoning)" if usage.reasoning_tokens else ""
    schema = [f"schema   {times.schema:8.3f} s   to compile it, before the model runs"] if times.schema else []
    lines = [f"answers  {len(answers)}; of the last one:"] if len(answers) > 1 else []
    return "\n".join(
        [
            *lines,
            f"load     {times.load:8.3f} s",
            *schema,
            f"vision   {times.vision:8.3f} s   {usage.image_tokens} visual tokens",
            f"prefill  {times.prefill:8.3f} s   {usage.prompt_tokens} prompt tokens, {usage.cached_tokens} cached",
            f"TTFT     {times.ttft:8.3f} s",
            f"TPOT     {tpot}",
            f"answer   {usage.completion_tokens} tokens{thought} in {times.total:.3f} s ({answer.finish_reason})",
            f"decoder  {usage.forward_passes} passes",
            f"memory   {peak:,} MiB peak",
            f"model    {model}",
            f"settings {settings}",
        ]
    )


def _replace_unprintable() -> None:
    """Make stdout print "?" for characters that its encoding lacks."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def as_dict(result: TaskResult, model: str, question: str | None, show_thinking: bool) -> dict[str, object]:
    """Return the members of a result's JSON object."""
    last = result.answers[-1]
    thoughts = [answer.reasoning for answer in result.answers if answer.reasoning and show_thinking]
    timings = asdict(last.timings).items()
    required: dict[str, object] = {
        "answer": result.text,
        "finish_reason": result.finish_reason,
        "model": model,
        "usage": asdict(last.usage),
        "timings": {name: seconds if seconds is None else round(seconds, 6) for name, seconds in timings},
    }
    optional: dict[str, object] = {
        "question": question,
        "marks": [{"label": mark.label, "box": mark.box, "point": mark.point} for mark in result.marks],
        "times": [{"start": time.start, "end": time.end} for time in last.times],
        "tool_calls": [asdict(call) for call in last.tool_calls],
        "votes": [dict(tile) for tile in result.vote_counts],
        "reasoning": [*result.reasoning, *thoughts],
        "notes": list(result.notes),
    }
    count = {"answers": len(result.answers)} if len(result.answers) > 1 else {}
    value = {"value": result.value} if result.value is not None else {}
    return required | count | value | {name: member for name, member in optional.items() if member}
