"""``vlrun ask``: one question about one picture or several. The answer goes to stdout, all else to stderr.

Knows click and words for people; everything heavy is imported when the command runs.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli import options as option
from vlrun.cli.terminal import printable, silent_libraries
from vlrun.errors import DamagedMedia, MediaTooLarge, OptionError

if TYPE_CHECKING:
    from vlrun.answer import Answer, Chunk, Options
    from vlrun.media.image import Picture

PICTURE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .mpo .heic .heif .avif .svg .pdf .psd".split()
)
"""What a missing picture's name ends in, so that a typing error is told as such and not taken for a question."""

MIB = 2**20


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... [QUESTION]")
@click.option("-q", "--question", help="The question; every word is then a picture.")
@option.sampling
@option.loading
@click.option("--stats", is_flag=True, help="Print times, tokens and peak memory to stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the text.")
def ask(
    words: tuple[str, ...],
    question: str | None,
    options: Options,
    loading: option.Loading,
    stats: bool,
    as_json: bool,
) -> None:
    """Ask a QUESTION about each IMAGE together (default: describe).

    IMAGE is a file, or - for stdin. The last word is the question, unless it names a file.
    """
    images, question = split(words, question)
    from vlrun.vlm import DEFAULT_QUESTION

    pictures = [_open(image) for image in images]
    if loading.model is None:
        click.echo(
            "vlrun: no --model given, so the tiny embedded demo model answers; it knows only its own world", err=True
        )
    vlm = loading.load()
    chunks = vlm.stream(pictures, question or DEFAULT_QUESTION, options)
    for note in vlm.notes:
        click.echo(f"vlrun: {note}", err=True)
    answer = _finish(chunks) if as_json else _print(chunks)
    if as_json:
        readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        told = json.dumps(_as_dict(answer, vlm.manifest.name), ensure_ascii=not readable)
        click.echo(re.sub("[\x7f-\x9f]", lambda control: f"\\u{ord(control[0]):04x}", told))  # terminals obey these too
    if stats:
        click.echo(_stats(answer), err=True)
    with contextlib.suppress(
        KeyboardInterrupt
    ):  # all is said; the picture's prefix may still be on its way to the disk
        vlm.close()


def split(words: Sequence[str], question: str | None = None) -> tuple[list[str], str | None]:
    """Pictures and question: without ``--question`` the last word is the question, unless it is -, a file, or one word
    that is named like a picture.

    Raises OptionError without a picture, or with an empty question.
    """
    images = list(words)
    if question is None and words and not _names_picture(words[-1]):
        question = images.pop()
    if question is not None and not question.strip():
        raise OptionError("the question is empty; leave it out to have the picture described")
    if not images:
        given = f": '{question}' is neither a file nor named like one" if question else ""
        raise OptionError(f"no picture given{given}")
    if images.count("-") > 1:
        raise OptionError("only one picture can come from stdin")
    return images, question


def _names_picture(word: str) -> bool:
    if word == "-":
        return True
    try:
        path = Path(word)
        return path.is_file() or (path.suffix.lower() in PICTURE_SUFFIXES and not any(map(str.isspace, word)))
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _open(image: str) -> Picture:
    from vlrun.media.image import open_picture

    source = _read_stdin() if image == "-" else image
    with silent_libraries():
        picture = open_picture(source)
    for note in picture.notes:
        click.echo(printable(f"vlrun: {note}"), err=True)
    return picture


def _read_stdin() -> bytes:
    from vlrun.media.image import MAX_FILE_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise OptionError("- reads a picture from stdin, but stdin is closed or a terminal")
    encoded = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(encoded) > MAX_FILE_BYTES:
        raise MediaTooLarge(f"the picture on stdin has more than {MAX_FILE_BYTES:,} bytes, the limit")
    if not encoded:
        raise DamagedMedia("the picture on stdin is empty")
    return encoded


def _print(chunks: Iterator[Chunk]) -> Answer:
    """Print the text as it comes and end the line."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character must not end the answer
    for chunk in chunks:
        click.echo(printable(chunk.text), nl=False)
        sys.stdout.flush()
        if chunk.answer is not None:
            click.echo()
            return chunk.answer
    raise RuntimeError("the stream ended without an answer")


def _finish(chunks: Iterator[Chunk]) -> Answer:
    return [chunk.answer for chunk in chunks if chunk.answer is not None][-1]


def _as_dict(answer: Answer, model: str) -> dict[str, object]:
    return {
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "model": model,
        "usage": asdict(answer.usage),
        "timings": {
            name: seconds if seconds is None else round(seconds, 6) for name, seconds in asdict(answer.timings).items()
        },
    }


def _stats(answer: Answer) -> str:
    times, usage = answer.timings, answer.usage
    tpot = f"{times.tpot * 1000:.1f} ms ({1 / times.tpot:.1f} tokens/s)" if times.tpot else "-"
    return "\n".join(
        [
            f"load     {times.load:8.3f} s",
            f"vision   {times.vision:8.3f} s   {usage.image_tokens} visual tokens",
            f"prefill  {times.prefill:8.3f} s   {usage.prompt_tokens} prompt tokens, {usage.cached_tokens} cached",
            f"TTFT     {times.ttft:8.3f} s",
            f"TPOT     {tpot}",
            f"answer   {usage.completion_tokens} tokens in {times.total:.3f} s ({answer.finish_reason})",
            f"decoder  {usage.passes} passes",
            f"memory   {_peak_memory():,} MiB at the peak",
        ]
    )


def _peak_memory() -> int:
    """Largest resident set of this process, in MiB, mapped files included."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
