"""``vlrun ask --window``: the same questions about each window of a long video, then summaries. It can be continued."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vlrun.cli.arguments import is_file
from vlrun.cli.each import content_hash, duration, request_key
from vlrun.cli.output import NotePrinter
from vlrun.cli.repeated import Repeated, RowPrinter, close_model
from vlrun.cli.terminal import print_note
from vlrun.errors import MediaError, OptionError, VlrunError
from vlrun.media.video import PendingClip, Video
from vlrun.storage.result_file import ResultFile
from vlrun.storage.row_file import JSON_LINES, Row
from vlrun.tasks.windows import Summary, answer_window, clock, span_of, windows_of

if TYPE_CHECKING:
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.vlm import VLM


def ask_windows(names: Sequence[str], seconds: float, asked: Repeated) -> None:
    """Ask all questions about each window of a video, and write a row for each answer or error.

    Raises:
        VlrunError: Of the kind of the first window that has no answer, after all are done.
    """
    asked.check("--window")
    if len(names) != 1 or not is_file(names[0]):
        raise OptionError("--window takes one video, which is a file")
    source = asked.image_options.video.apply(names[0])
    if not isinstance(source, Video):
        content_hash(names[0])  # raises MediaNotFound
        raise OptionError(f"--window is for videos, and '{names[0]}' is none")
    with asked.opened(partial(ResultFile, suffixes=(JSON_LINES,))) as (line, results):
        video = PendingClip(source)
        total = sum(1 for _ in windows_of(video, seconds)) * len(asked.requests)
        digest = content_hash(names[0]) if results else ""
        vlm = asked.model_options.load(line)
        keys = [request_key(vlm, request, asked.options, asked.image_options) for request in asked.requests]
        windows = _Windows(vlm, names[0], digest, asked, results, line, total)
        try:
            windows.ask(windows_of(video, seconds), list(zip(asked.requests, keys, strict=True)))
            if results:
                results.compact()
        finally:
            line.clear()
            windows.print_summary()
    close_model(vlm)
    if windows.first_error:
        raise windows.first_error


@dataclass
class _Windows:
    """What all windows share, and what is done."""

    vlm: VLM
    file: str
    digest: str
    asked: Repeated
    results: ResultFile | None
    line: ProgressLine
    total: int
    answered: int = 0
    skipped: int = 0
    first_error: VlrunError | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.notes = NotePrinter(line=self.line)
        self.printer = RowPrinter(self.asked.output, self.line, self.results)

    def ask(self, parts: Iterator[PendingClip], requests: Sequence[tuple[TaskRequest, str]]) -> None:
        """Ask all questions about all windows. A second question about a window finds its frames in the cache."""
        windows = self.total // len(requests)
        requests = [one for one in requests if not self._is_done(f"{one[1]} summary of {windows}")]
        self.answered = self.skipped = self.total - windows * len(requests)
        summaries = [Summary(self.vlm, request, self.asked.options) for request, _ in requests]
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
        print_note(
            f"{self.answered} of {self.total} windows answered in '{self.asked.output.answer_file}'{earlier}{rest}"
        )

    def _row(self, part: PendingClip, request: TaskRequest, key: str) -> Row:
        """Return the row of a window: that of an earlier run, or a new one, which is written or printed."""
        if (earlier := self._earlier(key)) is not None:
            self.answered += 1
            self.skipped += 1
            return earlier
        start, end = span_of(part)

        def answer() -> TaskResult:
            result = answer_window(self.vlm, part, request, self.asked.options)
            self.notes(result.notes)
            return result

        members, error = self.asked.answered(self.vlm, request, answer, (MediaError,))
        row = {**self._times(start, end), **members, **self._identity(key)}
        if error is None:
            self.answered += 1
        self.first_error = self.first_error or error
        self.printer.put(row, f"[{clock(start)}-{clock(end)}] {row['answer'] if error is None else error}")
        return row

    def _summarise(self, summary: Summary, request: TaskRequest, key: str) -> None:
        """Write or print a summary, unless the file has it already, of as many windows."""
        whole = summary.finish() if self._earlier(key) is None else None
        if whole is not None and (result := whole.result) is not None:
            self.notes(result.notes)
            members, _ = self.asked.answered(self.vlm, request, lambda: result)
            row = {**self._times(whole.start, whole.end), "summary": True, **members, **self._identity(key)}
            self.printer.put(row, f"Summary: {row['answer']}")

    def _times(self, start: float, end: float) -> dict[str, object]:
        return {"file": self.file, "start": round(start, 3), "end": round(end, 3)}

    def _identity(self, key: str) -> dict[str, str]:
        """Return the members of a row by which a later run finds it."""
        return {"sha256": self.digest, "request": key} if self.results else {}

    def _is_done(self, key: str) -> bool:
        return self.results is not None and self.results.has_answer(self.file, key, self.digest)

    def _earlier(self, key: str) -> Row | None:
        """Return the row of an earlier run; that of another file with the same content is copied."""
        row = self.results.answer_of(key, self.digest) if self.results else None
        if self.results and row is not None and row["file"] != self.file:
            self.results.append({**row, "file": self.file})
        return row
