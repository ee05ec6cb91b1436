"""``vlrun ask --window``: the same questions about each window of a long video, then summaries. It can be continued."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vlrun.cli.arguments import is_file
from vlrun.cli.each import content_hash, duration, request_key
from vlrun.cli.output import NotePrinter, as_dict, print_json_object, print_text
from vlrun.cli.terminal import print_note
from vlrun.errors import AnswerCutShort, InvalidAnswer, MediaError, OptionError, VlrunError
from vlrun.media.video import PendingClip, Video
from vlrun.storage.result_file import ResultFile, Row
from vlrun.storage.row_log import SUFFIX
from vlrun.tasks.windows import Summary, answer_window, clock, span_of, windows_of

if TYPE_CHECKING:
    from vlrun.cli.ask import OutputOptions
    from vlrun.cli.images import ImageOptions
    from vlrun.cli.options import ModelOptions
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.types.options import Options
    from vlrun.vlm import VLM


def ask_windows(
    names: Sequence[str],
    seconds: float,
    requests: Sequence[TaskRequest],
    image_options: ImageOptions,
    output: OutputOptions,
    options: Options,
    model_options: ModelOptions,
) -> None:
    """Ask all questions about each window of a video, and write a row for each answer or error.

    Raises:
        VlrunError: Of the kind of the first window that has no answer, after all are done.
    """
    _check(names, requests, output)
    source = image_options.video.apply(names[0])
    if not isinstance(source, Video):
        raise OptionError(f"--window is for videos, and '{names[0]}' is none")
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(model_options.progress_line())
        results = stack.enter_context(ResultFile(output.answer_file)) if output.answer_file else None
        video = PendingClip(source)
        total = sum(1 for _ in windows_of(video, seconds))
        digest = content_hash(names[0]) if results else ""
        vlm = model_options.load(line)
        keys = [request_key(vlm, request, options, image_options) for request in requests]
        asking = _Asking(vlm, names[0], digest, options, output, results, line, total * len(requests))
        try:
            asking.run(windows_of(video, seconds), list(zip(requests, keys, strict=True)))
            if results:
                results.compact()
        finally:
            line.clear()
            asking.print_summary()
    with contextlib.suppress(KeyboardInterrupt):  # close() may still write prefixes to disk
        vlm.close()
    if asking.first_error:
        raise asking.first_error


def _check(names: Sequence[str], requests: Sequence[TaskRequest], output: OutputOptions) -> None:
    """Check the options before the model is loaded. Raises OptionError."""
    if output.draw or output.heatmap or output.heatmap_word is not None or output.stats:
        raise OptionError("--draw, --heatmap and --stats are for one question: leave them out with --window")
    if len(names) != 1 or not is_file(names[0]):
        raise OptionError("--window takes one video, which is a file")
    if output.answer_file and output.answer_file.suffix.lower() != SUFFIX:
        raise OptionError(f"the answers about windows are JSON lines: end '{output.answer_file}' in {SUFFIX}")
    for request in requests:
        request.check_image_count(1)


@dataclass
class _Asking:
    """What all windows share, and what is done."""

    vlm: VLM
    file: str
    digest: str
    options: Options
    output: OutputOptions
    results: ResultFile | None
    line: ProgressLine
    total: int
    answered: int = 0
    skipped: int = 0
    first_error: VlrunError | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.notes = NotePrinter(line=self.line)

    def run(self, parts: Iterator[PendingClip], requests: Sequence[tuple[TaskRequest, str]]) -> None:
        """Ask all questions about all windows. A second question about a window finds its frames in the cache."""
        windows = self.total // len(requests)
        requests = [one for one in requests if not self._is_done(f"{one[1]} summary of {windows}")]
        self.answered = self.skipped = self.total - windows * len(requests)
        summaries = [Summary(self.vlm, request, self.options) for request, _ in requests]
        self.notes(self.vlm.notes)
        self.line.show(self.describe)
        for part in parts:
            start, end = span_of(part)
            for (request, key), summary in zip(requests, summaries, strict=True):
                row = self._row(part, request, f"{key} {start:g}-{end:g}")
                if "error" not in row:
                    summary.add(start, end, str(row["answer"]))
        for (request, key), summary in zip(requests, summaries, strict=True):
            self._summarise(summary, request, f"{key} summary of {summary.count}")

    def describe(self) -> str:
        """Return the text of the progress line."""
        done, elapsed = self.answered - self.skipped, time.monotonic() - self.began
        text = f"{self.answered} of {self.total} windows done"
        return f"{text}, {duration((self.total - self.answered) * elapsed / done)} left" if done else text

    def print_summary(self) -> None:
        """Print how much was answered, at the end, if it is in a file."""
        if self.results is None:
            return
        rest = "" if self.answered == self.total else ": the same command continues"
        earlier = f" ({self.skipped} were there already)" if self.skipped else ""
        print_note(f"{self.answered} of {self.total} windows answered in '{self.output.answer_file}'{earlier}{rest}")

    def _row(self, part: PendingClip, request: TaskRequest, key: str) -> Row:
        """Return the row of a window: that of an earlier run, or a new one, which is written or printed."""
        if (earlier := self._earlier(key)) is not None:
            self.answered += 1
            self.skipped += 1
            return earlier
        start, end = span_of(part)
        times = {"file": self.file, "start": round(start, 3), "end": round(end, 3)}
        try:
            row = {**times, **self._members(answer_window(self.vlm, part, request, self.options), request, key)}
            self.answered += 1
        except (MediaError, InvalidAnswer, AnswerCutShort) as error:
            question = {"question": request.question} if request.question else {}
            row = {**times, "error": str(error), **question, "model": self.vlm.manifest.name, "request": key}
            self.first_error = self.first_error or error
        self._put(row, f"[{clock(start)}-{clock(end)}] ")
        return row

    def _summarise(self, summary: Summary, request: TaskRequest, key: str) -> None:
        """Write or print a summary, unless the file has it already, of as many windows."""
        whole = summary.finish() if self._earlier(key) is None else None
        if whole is not None and whole.result is not None:
            times = {"file": self.file, "start": round(whole.start, 3), "end": round(whole.end, 3), "summary": True}
            self._put({**times, **self._members(whole.result, request, key)}, "Summary: ")

    def _is_done(self, key: str) -> bool:
        return self.results is not None and self.results.has_answer(self.file, key, self.digest)

    def _earlier(self, key: str) -> Row | None:
        """Return the row of an earlier run; that of another file with the same content is copied."""
        row = self.results.answer_of(key, self.digest) if self.results else None
        if self.results and row is not None and row["file"] != self.file:
            self.results.append({**row, "file": self.file})
        return row

    def _members(self, result: TaskResult, request: TaskRequest, key: str) -> Mapping[str, object]:
        self.notes(result.notes)
        if result.finish_reason != "stop" and request.options(self.options).schema is not None:
            raise AnswerCutShort("the answer was cut short before its JSON was complete: raise --max-tokens")
        members = as_dict(result, self.vlm.manifest.name, request.question, self.output.show_thinking)
        return {**members, "sha256": self.digest, "request": key}

    def _put(self, row: Row, begin: str) -> None:
        """Write a row to the file, or print it. Errors are also printed to stderr."""
        with self.line.paused():
            if "error" in row:
                print_note(f"{begin}{row['error']}")
            if self.results:
                self.results.append(row)
            elif self.output.as_json:
                print_json_object(row)
            elif "answer" in row:
                print_text(f"{begin}{row['answer']}")
