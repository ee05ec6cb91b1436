"""Runs a task request: all votes on all tiles in parallel, the majority per tile, one merged result."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from vlrun.conversation import Conversation
from vlrun.each import MAX_PARALLEL
from vlrun.errors import OptionError
from vlrun.media.image import Image
from vlrun.media.pending_image import open_images
from vlrun.media.region import Tiles, cut_tiles
from vlrun.media.transform import ImageTransform
from vlrun.models.family import ModelFamily
from vlrun.prompt.builder import Images, as_list
from vlrun.structured.python_types import value_of
from vlrun.tasks.aggregation import as_json, first_values, in_original, majority, most_frequent, sum_values
from vlrun.tasks.definition import MergeRule
from vlrun.tasks.request import TaskRequest, TaskResult, VoteCounts
from vlrun.types.answer import Answer, Chunk, FinishReason
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


class _Abandoned(Exception):
    """The vote was stopped because another one failed."""


@dataclass(frozen=True)
class _Reader:
    """Reads streams until ``stop`` is set."""

    on_notes: Callable[[Sequence[str]], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def read(self, chunks: Generator[Chunk]) -> Answer:
        with closing(chunks):
            while not self.stop.is_set():
                chunk = next(chunks)
                self.on_notes(chunk.notes)
                if chunk.answer:
                    return chunk.answer
        raise _Abandoned


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
    effective = request.options(given)
    if request.votes > 1 and not effective.temperature:  # greedy decoding would make all votes equal
        voting = vlm.family.voting
        effective = effective.with_defaults({"top_p": voting.top_p, "top_k": voting.top_k})
        effective = replace(effective, temperature=voting.temperature)
    vlm.grammar(effective)  # raises OptionError
    opened = open_images(as_list(images))
    request.check_image_count(len(opened))
    tiles = _tiles(opened, request.tiles)
    merge: MergeRule = request.task.merge if request.task is not None and given.schema is None else "none"
    reader = _Reader(on_notes)
    answers = [_majority_answer(vlm, votes, effective) for votes in _all_votes(vlm, tiles, request, effective, reader)]
    return request.with_corrected_total(_merge(opened, tiles, answers, merge, effective, vlm.family))


def _tiles(images: Sequence[Image], tiles: Tiles | None) -> list[list[Image]]:
    """Return the images of each conversation: all of them, or one tile each. A tile's transform leads to the image that
    was cut, even if that one was derived from another.
    """
    if tiles is None:
        return [list(images)]
    return [[tile] for tile in cut_tiles(replace(images[0], transform=None), tiles)]


def _all_votes(
    vlm: VLM, tiles: Sequence[Sequence[Image]], request: TaskRequest, options: Options, reader: _Reader
) -> list[list[Vote]]:
    """Return all votes, tile by tile. If one fails, or on Ctrl+C, the others stop at their next token."""
    pool = ThreadPoolExecutor(MAX_PARALLEL, "vlrun-vote")
    try:
        futures = [
            [pool.submit(_vote, vlm, tile, request, options, number, reader) for number in range(request.votes)]
            for tile in tiles
        ]
        done, _ = wait([future for tile in futures for future in tile], return_when=FIRST_EXCEPTION)
        for future in done:
            if (error := future.exception()) and not isinstance(error, _Abandoned):
                raise error
        return [[future.result() for future in tile] for tile in futures]
    finally:
        reader.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _vote(
    vlm: VLM, images: Sequence[Image], request: TaskRequest, options: Options, number: int, reader: _Reader
) -> Vote:
    """Run one conversation. If it fails, the other votes are stopped too."""
    *first, last = request.questions()
    seeded = options if options.seed is None else replace(options, seed=(options.seed + number) % (MAX_SEED + 1))
    free_text = replace(seeded, schema=None, heatmap=False)
    conversation = Conversation(vlm, system=request.system)
    answers: list[Answer] = []
    try:
        for question in first:
            answers.append(reader.read(conversation.stream(question, () if answers else images, free_text)))
        return (*answers, reader.read(conversation.stream(last, () if answers else images, seeded)))
    except BaseException:
        reader.stop.set()
        raise


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
    images: Sequence[Image],
    tiles: Sequence[Sequence[Image]],
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
    marks = tuple(_marks(images, tiles, tile_answers, family))
    text, value = _merge_text(images[:1], tile_answers, merge, marks, family)
    if isinstance(options.schema, type):
        with suppress(OptionError):  # a merged answer may not match the type
            value = value_of(text, options.schema)
    return TaskResult(
        text,
        value,
        answers,
        reasons[0] if reasons else "stop",
        tuple(tile.counts for tile in tile_answers) if len(votes) > len(tiles) else (),
        tuple(in_original(mark, images[0]) for mark in marks),
        tuple(reasoning.text for vote in votes for reasoning in vote[:-1]),
        tuple(notes),
    )


def _marks(
    images: Sequence[Image], tiles: Sequence[Sequence[Image]], tile_answers: Sequence[_TileAnswer], family: ModelFamily
) -> Iterator[Mark]:
    """Yield boxes and points in pixels of the image; nothing if there are several images."""
    if len(images) != 1:
        return
    for (image,), tile in zip(tiles, tile_answers, strict=True):
        transform = image.to_original if len(tiles) > 1 else ImageTransform(image.size)
        yield from family.find_marks(tile.text, image.size, transform)


def _merge_text(
    images: Sequence[Image],
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
    if merge == "boxes":
        value = [family.format_box(mark, images[0].size) for mark in marks if mark.box]
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
