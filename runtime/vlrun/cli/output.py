"""What a command prints of an answer: the text as it comes, one JSON object, figures, images with marks and heat.

Knows click and words for people; does not know how answers are made.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.terminal import printable

if TYPE_CHECKING:
    from vlrun.cli.images import LoadedImage
    from vlrun.tasks.request import TaskResult
    from vlrun.types.answer import Answer, Chunk

MIB = 2**20


def print_stream(chunks: Iterator[Chunk]) -> Answer:
    """Print the text as it comes and end the line."""
    forgive_stdout()
    for chunk in chunks:
        click.echo(printable(chunk.text), nl=False)
        sys.stdout.flush()
        if chunk.answer is not None:
            click.echo()
            return chunk.answer
    raise RuntimeError("the stream ended without an answer")


def print_text(text: str) -> None:
    """Print a whole text."""
    forgive_stdout()
    click.echo(printable(text))


def forgive_stdout() -> None:
    """A terminal that lacks a character must not end the answer."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def print_json(result: TaskResult, model: str, question: str | None) -> None:
    """Print one JSON object. Control characters are escaped: terminals obey them."""
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    told = json.dumps(_as_dict(result, model, question), ensure_ascii=not readable)
    click.echo(re.sub("[\x7f-\x9f]", lambda control: f"\\u{ord(control[0]):04x}", told))


def tell(result: TaskResult) -> None:
    """Say on stderr what there is to say beside the answer."""
    for thought in result.reasoning:
        click.echo(printable(f"vlrun: reasoning: {thought}"), err=True)
    for number, spread in enumerate(result.spread, 1):
        part = f" of part {number}" if len(result.spread) > 1 else ""
        for place, counts in spread.items():
            votes = ", ".join(f"{value} x{count}" for value, count in sorted(counts.items(), key=lambda one: -one[1]))
            click.echo(printable(f"vlrun: votes{part}{f' on {place}' if place else ''}: {votes}"), err=True)
    for note in result.notes:
        click.echo(printable(f"vlrun: {note}"), err=True)


def draw(result: TaskResult, shown: LoadedImage, target: Path) -> None:
    """Write the image with boxes and points. Raises OutputError."""
    from vlrun.media.output_file import save_image
    from vlrun.tasks.drawing import draw_marks

    drawn = draw_marks(shown.original, result.marks)
    save_image(drawn.image, target)
    if not result.marks:
        click.echo("vlrun: the answer names no place, so nothing is drawn on the image", err=True)
    for line in drawn.legend:
        click.echo(printable(f"vlrun: {line}"), err=True)


def draw_heat(answer: Answer, shown: LoadedImage, word: str | None, target: Path) -> None:
    """Write the image with what the answer, or one word of it, looked at. Raises OptionError and OutputError."""
    from vlrun.heatmap.overlay import overlay_heat
    from vlrun.media.output_file import save_image

    if answer.heat is None or not answer.heat.pieces:
        click.echo("vlrun: the answer is empty, so there is no heat map", err=True)
        return
    save_image(overlay_heat(shown.image, answer.heat.of(word)), target)


def stats(answers: Sequence[Answer]) -> str:
    """Times, tokens and peak memory; of several answers, which ran together, the last one's."""
    answer = answers[-1]
    times, usage = answer.timings, answer.usage
    tpot = f"{times.tpot * 1000:.1f} ms ({1 / times.tpot:.1f} tokens/s)" if times.tpot else "-"
    lines = [f"answers  {len(answers)}, of which the last:"] if len(answers) > 1 else []
    return "\n".join(
        [
            *lines,
            f"load     {times.load:8.3f} s",
            f"vision   {times.vision:8.3f} s   {usage.image_tokens} visual tokens",
            f"prefill  {times.prefill:8.3f} s   {usage.prompt_tokens} prompt tokens, {usage.cached_tokens} cached",
            f"TTFT     {times.ttft:8.3f} s",
            f"TPOT     {tpot}",
            f"answer   {usage.completion_tokens} tokens in {times.total:.3f} s ({answer.finish_reason})",
            f"decoder  {usage.forward_passes} passes",
            f"memory   {_peak_memory():,} MiB at the peak",
        ]
    )


def _as_dict(result: TaskResult, model: str, question: str | None) -> dict[str, object]:
    last = result.answers[-1]
    timings = {
        name: seconds if seconds is None else round(seconds, 6) for name, seconds in asdict(last.timings).items()
    }
    told: dict[str, object] = {
        "answer": result.text,
        "finish_reason": result.finish_reason,
        "model": model,
        "usage": asdict(last.usage),
        "timings": timings,
    }
    further: dict[str, object] = {
        "question": question,
        "marks": [asdict(mark) for mark in result.marks],
        "tool_calls": [asdict(call) for call in last.tool_calls],
        "votes": [dict(spread) for spread in result.spread],
        "reasoning": list(result.reasoning),
        "notes": list(result.notes),
    }
    several = {"answers": len(result.answers)} if len(result.answers) > 1 else {}
    formed = {"value": result.value} if result.value is not None else {}
    return told | several | formed | {name: value for name, value in further.items() if value}


def _peak_memory() -> int:
    """Largest resident set of this process, in MiB, mapped files included."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
