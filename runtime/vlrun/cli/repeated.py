"""What the commands share that ask the same questions again and again: about folders, cameras and long videos."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vlrun.cli.output import as_dict, print_json_object, print_text
from vlrun.cli.terminal import print_note
from vlrun.errors import AnswerCutShort, InvalidAnswer, OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.cli.ask import OutputOptions
    from vlrun.cli.images import ImageOptions
    from vlrun.cli.options import ModelOptions
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.storage.row_file import Row, RowFile
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

F = TypeVar("F", bound="RowFile")


@dataclass(frozen=True)
class Repeated:
    """Questions, and the options of the command line for them."""

    requests: Sequence[TaskRequest]
    image_options: ImageOptions
    output: OutputOptions
    options: Options
    model_options: ModelOptions

    def check(self, option: str) -> None:
        """Check the options before anything is opened. Raises OptionError. ``option``: what repeats the questions."""
        output = self.output
        if output.draw or output.heatmap or output.heatmap_word is not None or output.stats:
            raise OptionError(f"--draw, --heatmap and --stats are for one question: leave them out with {option}")
        for request in self.requests:
            request.check_image_count(1)

    @contextlib.contextmanager
    def opened(self, open_rows: Callable[[Path], F]) -> Iterator[tuple[ProgressLine, F | None]]:
        """Show a progress line for a block, and open the file of rows if one is wanted. Raises as ``RowFile``."""
        with self.model_options.progress_line() as line:
            if self.output.answer_file is None:
                yield line, None
                return
            with open_rows(self.output.answer_file) as rows:
                yield line, rows

    def answered(
        self, vlm: VLM, request: TaskRequest, answer: Callable[[], TaskResult], own: tuple[type[VlrunError], ...] = ()
    ) -> tuple[dict[str, Any], VlrunError | None]:
        """Return the members of a row, and its error if there is one: of ``own``, or an answer that is not valid.

        The text of such an answer is in the row. All other errors are raised: they would come again.
        """
        error: VlrunError | None = None
        try:
            result = answer()
            error = incomplete_json(result, request, self.options)
        except InvalidAnswer as invalid:
            result, error = request.result_of(invalid.answer), invalid
        except own as failed:
            return self.failed(vlm, request, failed), failed
        members = as_dict(result, vlm.manifest.name, request.question, self.output.show_thinking)
        return ({"error": str(error), **members} if error else members), error

    @staticmethod
    def failed(vlm: VLM, request: TaskRequest, error: VlrunError) -> dict[str, Any]:
        """Return the members of a row without an answer."""
        question = {"question": request.question} if request.question else {}
        return {"error": str(error), **question, "model": vlm.manifest.name}


@dataclass(frozen=True)
class RowPrinter:
    """Writes rows to a file, or prints them; errors also to stderr. Thread-safe."""

    output: OutputOptions
    line: ProgressLine
    rows: RowFile | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, row: Row, text: str) -> None:
        """Write or print a row. ``text``: what is printed of it, to stderr if it has an error."""
        with self.lock, self.line.paused():
            if "error" in row:
                print_note(text)
            if self.rows:
                self.rows.append(row)
            elif self.output.as_json:
                print_json_object(row)
            elif "error" not in row:
                print_text(text)


def incomplete_json(result: TaskResult, request: TaskRequest, options: Options) -> AnswerCutShort | None:
    """Return an error for an answer that ended before its JSON was complete; None for all others."""
    if result.finish_reason == "stop" or request.options(options).schema is None:
        return None
    if result.finish_reason == "repetition":
        return AnswerCutShort("the answer repeated itself before its JSON was complete")
    return AnswerCutShort("the answer was cut short before its JSON was complete: raise --max-tokens")


def close_model(vlm: VLM) -> None:
    """Close the model, which may still write prefixes to disk. Ctrl+C ends that: no answer depends on it."""
    with contextlib.suppress(KeyboardInterrupt):
        vlm.close()
