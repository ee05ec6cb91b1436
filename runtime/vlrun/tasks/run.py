"""Runs a task request: all votes on all tiles in parallel, the majority per tile, one merged result."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from vlrun.conversation import Conversation
from vlrun.each import MAX_PARALLEL
from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, OptionError
from vlrun.media.clip import Clip
from vlrun.media.image import Image
from vlrun.media.pending_image import open_images
from vlrun.media.region import cut_tiles
from vlrun.media.transform import ImageTransform
from vlrun.models.family import ModelFamily
from vlrun.prompt.builder import Images, as_list
from vlrun.structured.python_types import value_of
from vlrun.tasks.aggregation import as_json, first_values, in_original, majority, most_frequent, sum_values
from vlrun.tasks.definition import MergeRule
from vlrun.tasks.request import TaskRequest, TaskResult, VoteCounts
from vlrun.types.answer import Answer, Chunk, FinishReason, Progress, last_of
from vlrun.types.arguments import has_method, instance, optional
from vlrun.types.mark import Mark
from vlrun.types.options import Options
from vlrun.types.sampling import MAX_SEED

if TYPE_CHECKING:
    from vlrun.vlm import VLM

Vote: TypeAlias = tuple[Answer, ...]
"""The answers of one conversation: reasoning, if requested, then the vote itself."""


@dataclass(frozen=True)
class _TileAnswer:
    """The majority answer about one tile. ``data`` is the parsed JSON if ``is_json``."""

    text: str
    data: object
    is_json: bool
    reason: FinishReason
    votes: Sequence[Vote]
    counts: VoteCounts


@dataclass(frozen=True)
class TaskImages:
    """The images of a task request, with only the pixels that the model sees.

    Attributes:
        conversations: The images of each conversation: all of them, or one tile each.
        size: Width and height of the image, if it is a single one.
        to_original: From its pixels to those of the original.
    """

    conversations: tuple[tuple[Image | Clip, ...], ...]
    size: tuple[int, int] | None
    to_original: ImageTransform | None


@dataclass(frozen=True)
class RunControl:
    """How the answers of a request are generated.

    Attributes:
        parallel: Answers at once.
        cancellation: Ends all of them from another thread.
        on_notes: Gets notes about the images before the model runs, in the threads of the votes.
        on_progress: Gets the progress of the first answer, then the number of answers, in the threads of the votes.
    """

    parallel: int = MAX_PARALLEL
    cancellation: Cancellation = field(default_factory=Cancellation)
    on_notes: Callable[[Sequence[str]], None] = lambda _: None
    on_progress: Callable[[Progress], None] | None = None


def run_task(
    vlm: VLM,
    images: Images,
    request: TaskRequest,
    options: Options | None = None,
    on_notes: Callable[[Sequence[str]], None] = lambda _: None,
) -> TaskResult:
    """Run a task request on images. Raises as ``VLM.ask``.

    ``on_notes`` gets notes about the images before the model runs, in the threads of the votes.
    """
    has_method("chat", "a vlrun.VLM")("vlm", vlm)
    instance(TaskRequest)("request", request)
    given = optional(instance(Options))("options", options) or Options()
    prepared = prepare_images(vlm, open_images(as_list(images)), request, request.options(given))
    return run_prepared(vlm, prepared, request, given, RunControl(MAX_PARALLEL, on_notes=on_notes))


def answer_request(
    vlm: VLM,
    images: Images,
    request: TaskRequest,
    options: Options,
    cancellation: Cancellation | None = None,
) -> TaskResult:
    """Run a task request; one that is a single question without the threads of votes. Raises as ``run_task``.

    ``cancellation`` ends a single question from another thread.
    """
    if not request.is_single:
        return run_task(vlm, images, request, options)
    effective, (question,) = request.options(options), request.questions()
    turn = vlm.builder.question_turn(images, question, effective, vlm.known_context)
    return request.result_of(last_of(vlm.chat([*request.opening(), turn], effective, cancellation=cancellation)))


def prepare_images(vlm: VLM, images: Sequence[Image | Clip], request: TaskRequest, options: Options) -> TaskImages:
    """Cut the tiles of a request, and keep only the pixels that the model sees. ``options``: those of the task.

    Raises:
        OptionError: The request needs another number of images, or the tiles are too small.
        MediaTooLarge: An image or a tile is too narrow.
    """
    request.check_image_count(len(images))
    parts: Sequence[Sequence[Image | Clip]] = [images]
    if request.tiles is not None:
        if isinstance(images[0], Clip):
            raise OptionError("tiles need an image, not a video")
        # A tile's transform leads to the image that was cut, even if that one was derived
        parts = [[tile] for tile in cut_tiles(replace(images[0], transform=None), request.tiles)]
    seen = tuple(
        tuple(one if isinstance(one, Clip) else vlm.builder.resize(one, options, options.detail) for one in part)
        for part in parts
    )
    if len(images) != 1 or isinstance(images[0], Clip):
        return TaskImages(seen, None, None)
    return TaskImages(seen, images[0].size, images[0].to_original)


def run_prepared(
    vlm: VLM, images: TaskImages, request: TaskRequest, options: Options, control: RunControl
) -> TaskResult:
    """Run a task request on prepared images. ``options`` are the caller's. Raises as ``run_task``."""
    effective = replace(request.options(options), progress=control.on_progress is not None)
    if request.votes > 1 and not effective.temperature:  # greedy decoding would make all votes equal
        voting = vlm.family.voting
        effective = effective.with_defaults({"top_p": voting.top_p, "top_k": voting.top_k})
        effective = replace(effective, temperature=voting.temperature)
    vlm.grammar(effective)  # raises OptionError
    merge: MergeRule = request.task.merge if request.task is not None and options.schema is None else "none"
    votes = _Votes(vlm, request, effective, control).run(images)
    answers = [_majority_answer(vlm, tile, effective) for tile in votes]
    return request.with_corrected_total(_merge(images, answers, merge, effective, vlm.family))


class _Votes:
    """The votes of a request, several at once."""

    def __init__(self, vlm: VLM, request: TaskRequest, options: Options, control: RunControl) -> None:
        self._vlm = vlm
        self._request = request
        self._options = options
        self._control = control
        self._stop = Cancellation()
        self._failures: list[BaseException] = []
        self._answered = 0
        self._lock = threading.Lock()

    def run(self, images: TaskImages) -> list[list[Vote]]:
        """Return all votes, tile by tile. If one fails or all are cancelled, and on Ctrl+C, the others stop at once."""
        self._control.cancellation.add_done_callback(lambda _: self._stop.cancel())
        pool = ThreadPoolExecutor(self._control.parallel, "vlrun-vote")
        try:
            tiles = images.conversations
            futures = [
                [pool.submit(self._vote, tile, index, vote) for vote in range(self._request.votes)]
                for index, tile in enumerate(tiles)
            ]
            pending = [future for tile in futures for future in tile]
            wait(pending, return_when=FIRST_EXCEPTION)
            if self._failures:
                for future in pending:
                    future.cancel()
                wait(pending)
                raise self._failures[0]
            return [[future.result() for future in tile] for tile in futures]
        finally:
            self._stop.cancel()
            pool.shutdown(wait=False, cancel_futures=True)

    def _vote(self, images: Sequence[Image | Clip], tile: int, number: int) -> Vote:
        """Run one conversation. If it fails, the other votes are stopped too."""
        if self._stop.cancelled():
            raise AnswerCancelled("the answer was cancelled")
        *first, last = self._request.questions()
        options = self._options
        seeded = options if options.seed is None else replace(options, seed=(options.seed + number) % (MAX_SEED + 1))
        free_text = replace(seeded, schema=None, heatmap=False)
        conversation = Conversation(self._vlm, system=self._request.system, cancellation=self._stop)
        answers: list[Answer] = []
        try:
            for question in first:
                stream = conversation.stream(question, () if answers else images, free_text)
                answers.append(self._read(stream, reports=not tile and not number))
            stream = conversation.stream(last, () if answers else images, seeded)
            return (*answers, self._read(stream, reports=not tile and not number))
        except BaseException as error:
            self._failures.append(error)
            self._stop.cancel()
            raise

    def _read(self, chunks: Generator[Chunk], *, reports: bool) -> Answer:
        """Read an answer. ``reports``: it is the one whose progress is reported."""
        with closing(chunks):
            answer = last_of(self._watched(chunks, reports))
        with self._lock:
            self._answered += 1
            self._report(Progress("votes", self._answered, self._request.answer_count))
        return answer

    def _watched(self, chunks: Iterable[Chunk], reports: bool) -> Iterator[Chunk]:
        for chunk in chunks:
            self._control.on_notes(chunk.notes)
            if chunk.progress and reports and not self._answered:
                self._report(chunk.progress)
            yield chunk

    def _report(self, progress: Progress) -> None:
        if self._control.on_progress is not None:
            self._control.on_progress(progress)


def _majority_answer(vlm: VLM, votes: Sequence[Vote], options: Options) -> _TileAnswer:
    """Return the most frequent answer. Answers that were cut short count only if all were."""
    answers = [vote[-1] for vote in votes]
    complete = [answer for answer in answers if answer.finish_reason == "stop"]
    if options.schema is None or not complete:
        counted = complete or answers
        texts = [answer.text.strip() for answer in counted]
        chosen = counted[texts.index(Counter(texts).most_common(1)[0][0])]
        return _TileAnswer(chosen.text, None, False, chosen.finish_reason, votes, {"": Counter(texts)})
    values = [json.loads(answer.text) for answer in complete]
    counts: dict[str, Mapping[str, int]] = {}
    value = majority(values, "", counts)
    if not _validates(vlm, as_json(value), options):  # a combination that no vote gave may violate the schema
        value, counts = most_frequent(values), {"": Counter(map(as_json, values))}
    return _TileAnswer(as_json(value), value, True, "stop", votes, counts)


def _merge(
    images: TaskImages,
    tile_answers: Sequence[_TileAnswer],
    merge: MergeRule,
    options: Options,
    family: ModelFamily,
) -> TaskResult:
    votes = [vote for tile in tile_answers for vote in tile.votes]
    answers = tuple(answer for vote in votes for answer in vote)
    reasons = [tile.reason for tile in tile_answers if tile.reason != "stop"]
    cut = sum(answer.finish_reason != "stop" for answer in answers)
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    if cut and not reasons:
        notes[f"{cut} of {len(answers)} answers were cut short and did not count"] = None
    marks = tuple(_marks(images, tile_answers, family))
    text, value = _merge_text(images, tile_answers, merge, marks, family)
    if isinstance(options.schema, type):
        with suppress(OptionError):  # a merged answer may not match the type
            value = value_of(text, options.schema)
    return TaskResult(
        text,
        value,
        answers,
        reasons[0] if reasons else "stop",
        tuple(tile.counts for tile in tile_answers) if len(votes) > len(tile_answers) else (),
        _placed(images, marks, text, family),
        tuple(reasoning.text for vote in votes for reasoning in vote[:-1]),
        tuple(notes),
    )


def _marks(images: TaskImages, tile_answers: Sequence[_TileAnswer], family: ModelFamily) -> Iterator[Mark]:
    """Yield boxes and points in pixels of the image; nothing if there are several images."""
    if images.size is None:
        return
    for (image,), tile in zip(images.conversations, tile_answers, strict=True):
        whole = ImageTransform(image.size)
        transform = image.to_original if isinstance(image, Image) and len(tile_answers) > 1 else whole
        yield from family.find_marks(tile.text, image.size, transform)


def _placed(images: TaskImages, marks: Sequence[Mark], text: str, family: ModelFamily) -> tuple[Mark, ...]:
    """Return marks in pixels of the original, with their spans in the merged text if all of them are in it."""
    if images.to_original is None or images.size is None:
        return ()
    found = family.find_marks(text, images.size, ImageTransform(images.size))
    spans = [mark.span for mark in found] if len(found) == len(marks) else [None] * len(marks)
    return tuple(
        replace(in_original(mark, images.to_original), span=span) for mark, span in zip(marks, spans, strict=True)
    )


def _merge_text(
    images: TaskImages,
    tile_answers: Sequence[_TileAnswer],
    merge: MergeRule,
    marks: Sequence[Mark],
    family: ModelFamily,
) -> tuple[str, object]:
    """Return the merged answers as text, and parsed if they are JSON."""
    if len(tile_answers) == 1:
        return tile_answers[0].text, tile_answers[0].data
    if not all(tile.is_json for tile in tile_answers):
        total = len(tile_answers)
        return "\n".join(f"[{number}/{total}] {tile.text}" for number, tile in enumerate(tile_answers, 1)), None
    data = [tile.data for tile in tile_answers]
    value: object = data  # the user's own schema: one answer per tile
    if merge == "boxes" and images.size is not None:
        value = [family.format_box(mark, images.size) for mark in marks if mark.box]
    elif merge == "sum":
        value = sum_values(data)
    elif merge == "first":
        value = first_values(data)
    return as_json(value), value


def _validates(vlm: VLM, text: str, options: Options) -> bool:
    """Return whether JSON text validates against the schema."""
    grammar = vlm.grammar(options)
    if grammar is None:
        return True
    constraint = grammar.constraint()
    try:
        for token in vlm.template.encode_text(text):
            constraint.accept(token)
    except OptionError:
        return False
    return constraint.complete and grammar.checks.violation(text) is None
