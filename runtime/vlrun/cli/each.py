"""``vlrun ask --each``: the same questions about each image of folders. The results can be continued."""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from vlrun.cli.arguments import is_file
from vlrun.cli.output import print_json_object, print_text
from vlrun.cli.repeated import Repeated, close_model
from vlrun.cli.terminal import print_note, silent_libraries
from vlrun.each import MAX_PARALLEL, OWN_ERRORS, answer_each
from vlrun.errors import MediaError, MediaNotFound, MediaTooLarge, OptionError, VlrunError
from vlrun.media.clip import Clip
from vlrun.media.image import MAX_FILE_BYTES
from vlrun.media.image_files import find_images
from vlrun.media.pending_image import read_headers
from vlrun.media.video import PendingClip, opens_as_video
from vlrun.media.video_file import DEFAULT_VIDEO_LIMITS
from vlrun.storage.regular_files import open_regular
from vlrun.storage.result_file import ResultFile
from vlrun.storage.row_file import Row
from vlrun.tasks.run import answer_request
from vlrun.types.options import Options

if TYPE_CHECKING:
    from vlrun.cli.images import ImageOptions
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.engine.request import Cancellation
    from vlrun.media.image import Image
    from vlrun.media.pending_image import Pending, PendingMedia
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.vlm import VLM

KEY_CHARACTERS = 16


@dataclass(frozen=True)
class _Item:
    """A question about a file. ``key`` identifies all that the answer depends on, but for the file."""

    file: str
    request: TaskRequest
    key: str


def ask_each(names: Sequence[str], recursive: bool, asked: Repeated) -> None:
    """Ask all questions about each file, and write a row for each answer or error.

    Raises:
        VlrunError: Of the kind of the first file that has no answer, after all are done.
    """
    if not all(map(is_file, names)):
        raise OptionError("--each takes files and folders: no stdin, no clipboard, no URL")
    asked.check("--each")
    requests = asked.requests
    with asked.opened(ResultFile) as (line, results):
        total = sum(1 for _ in find_images(*names, recursive=recursive)) * len(requests)
        if not total:
            raise MediaNotFound(f"there are no images in {', '.join(repr(name) for name in names)}")
        vlm = asked.model_options.load(line)
        keys = [request_key(vlm, request, asked.options, asked.image_options) for request in requests]
        with line.paused():
            for note in vlm.notes:
                print_note(note)
        tally = _Tally(total)
        items = (
            _Item(file, request, key)
            for file in find_images(*names, recursive=recursive)
            for request, key in zip(requests, keys, strict=True)
        )
        try:
            _run(_Asking(vlm, asked, results, tally), items, line)
            if results:
                results.compact()
        finally:
            line.clear()
            print_note(tally.summary(f" in '{asked.output.answer_file}'" if results else ""))
    close_model(vlm)
    tally.raise_first_error()


def _run(asking: _Asking, items: Iterator[_Item], line: ProgressLine) -> None:
    line.show(asking.tally.describe)
    parallel = MAX_PARALLEL if all(request.is_single for request in asking.asked.requests) else 1
    with silent_libraries() as note, contextlib.closing(answer_each(items, asking.answer, parallel)) as outcomes:
        for outcome in outcomes:
            if asking.results is None and outcome.answer is not None:
                with line.paused():
                    asking.print(outcome.answer, note)


@dataclass
class _Tally:
    """Counts what is done. Thread-safe."""

    total: int
    answered: int = 0
    skipped: int = 0
    failed: int = 0
    first_error: VlrunError | None = None
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, skipped: bool = False, error: VlrunError | None = None) -> None:
        with self.lock:
            self.answered += error is None
            self.skipped += skipped
            self.failed += error is not None
            self.first_error = self.first_error or error

    def describe(self) -> str:
        """Return the text of the progress line."""
        done, elapsed = self.answered + self.failed, time.monotonic() - self.began
        text = f"{done} of {self.total} done{f', {self.failed} of them failed' if self.failed else ''}"
        rate = (done - self.skipped) / elapsed if elapsed else 0
        if not rate:
            return text
        left = duration((self.total - done) / rate)
        return f"{text}: {100 * done // self.total} %, {_rate(rate)}, {left} left"

    def summary(self, target: str) -> str:
        """Return what is said at the end, also at an early one."""
        done = self.answered + self.failed
        skipped = f" ({self.skipped} were there already)" if self.skipped else ""
        rest = (
            ""
            if done == self.total
            else f", {self.total - done} are left{': the same command continues' * bool(target)}"
        )
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.answered} of {self.total} answered{target}{skipped}{failed}{rest}"

    def raise_first_error(self) -> None:
        """Raise an error of the same kind as the first one, if there was one."""
        if (error := self.first_error) is not None:
            same = copy.copy(error)
            same.args = (f"{self.failed} of {self.total} have no answer; the first: {error}",)
            raise same


@dataclass(frozen=True)
class _Asking:
    """What all files share."""

    vlm: VLM
    asked: Repeated
    results: ResultFile | None
    tally: _Tally

    def answer(self, item: _Item, cancellation: Cancellation) -> Row:
        """Answer the question about a file, unless it is answered already; write the row to the file of results."""
        row: Row | None = None
        error: VlrunError | None = None
        identity = {"request": item.key}
        try:
            identity["sha256"] = content_hash(item.file)
            row = self._earlier(item, identity["sha256"])
        except MediaError as unreadable:
            row, error = self.asked.failed(self.vlm, item.request, unreadable), unreadable
        skipped = row is not None and error is None
        if row is None:

            def answer() -> TaskResult:
                return self._result(item, cancellation)

            row, error = self.asked.answered(self.vlm, item.request, answer, OWN_ERRORS)
        if row:
            row = {"file": item.file, **row, **identity}
            if self.results is not None:
                self.results.append(row)
        self.tally.count(skipped=skipped, error=error)
        return row

    def print(self, row: Row, note: Callable[[str], None]) -> None:
        """Print a row to stdout: as JSON, or as a line of text, or several, without errors, which are noted."""
        if self.asked.output.as_json:
            print_json_object(row)
        elif "error" in row:
            note(row["error"])
        else:
            print_text(f"{row['file']}: {row['answer']}")

    def _earlier(self, item: _Item, digest: str) -> Row | None:
        """Return an empty row if the file has its answer, the answer of a file with the same content, or None."""
        if self.results is None:
            return None
        if self.results.has_answer(item.file, item.key, digest):
            return {}
        row = self.results.answer_of(item.key, digest)
        return None if row is None else {**row, "file": item.file}

    def _result(self, item: _Item, cancellation: Cancellation) -> TaskResult:
        vlm, request = self.vlm, item.request
        effective = request.options(self.asked.options)
        pages = self.asked.image_options.pages if item.file.lower().endswith(".pdf") else None
        pending = read_headers([self.asked.image_options.video.apply(item.file)], pages)
        if self.asked.image_options.region is None:
            vlm.builder.check_pending(pending, effective, vlm.known_context)
        images = [self._opened(one, effective, whole=request.tiles is not None) for one in pending]
        return answer_request(vlm, images, request, self.asked.options, cancellation)

    def _opened(self, pending: PendingMedia, options: Options, *, whole: bool) -> Image | Clip:
        """Open an image or a video, with only the pixels that the model sees unless the ``whole`` image is wanted."""
        if isinstance(pending, Clip):
            return pending
        if isinstance(pending, PendingClip):
            return self.vlm.builder.open_clip(pending, options, self.vlm.known_context)
        return self._whole(pending) if whole else self._seen(pending, options)

    def _seen(self, pending: Pending, options: Options) -> Image:
        builder, as_given = self.vlm.builder, not (self.asked.image_options.region or self.asked.image_options.enhance)
        shown = builder.shown_size(pending.size, options, options.detail) if as_given else None
        with pending.opened(shown) as image:
            return builder.resize(self.asked.image_options.apply(image), options, options.detail)

    def _whole(self, pending: Pending) -> Image:
        with pending.opened() as image:
            return self.asked.image_options.apply(image)


def content_hash(file: str) -> str:
    """Return the SHA-256 of a regular file. Raises MediaNotFound and MediaTooLarge."""
    try:
        limit = DEFAULT_VIDEO_LIMITS.max_bytes if opens_as_video(file) else MAX_FILE_BYTES
        with os.fdopen(open_regular(file, limit), "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        kind = MediaTooLarge if error.errno == errno.EFBIG else MediaNotFound
        raise kind(f"cannot open '{file}': {error.strerror}") from error


def request_key(vlm: VLM, request: TaskRequest, options: Options, image_options: ImageOptions) -> str:
    """Return a hash of the model, the questions and all options that change an answer. Raises OptionError."""
    effective = replace(request.options(options), progress=False)
    vlm.grammar(effective)
    changed = {one.name: value for one in fields(Options) if (value := getattr(effective, one.name)) != one.default}
    asked = [request.questions(), request.system, str(request.tiles), request.votes, str(image_options)]
    text = json.dumps([vlm.fingerprint, asked, changed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_CHARACTERS]


def _rate(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
