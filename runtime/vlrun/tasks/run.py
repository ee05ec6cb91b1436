"""Running a task request: all votes on all tiles in parallel, the majority per tile, one merged result."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlrun.conversation import Conversation
from vlrun.errors import OptionError
from vlrun.media.image import Image, open_image
from vlrun.media.region import Tiles, cut_tiles
from vlrun.media.transform import ImageTransform
from vlrun.models.family import ModelFamily
from vlrun.prompt.builder import Images, as_list
from vlrun.structured.python_types import value_of
from vlrun.tasks.aggregation import as_json, first_values, in_original, majority, most_frequent, sum_values
from vlrun.tasks.definition import MergeRule
from vlrun.tasks.request import TaskRequest, TaskResult, VoteCounts
from vlrun.types.answer import Answer, Chunk, FinishReason
from vlrun.types.mark import Mark
from vlrun.types.options import Options
from vlrun.types.sampling import MAX_SEED, SamplingParams

if TYPE_CHECKING:
    from vlrun.vlm import VLM

MAX_PARALLEL = 8
"""Answers that run at once, as many as the engine batches."""


@dataclass(frozen=True)
class _Vote:
    """One answer, with the reasoning before it."""

    answer: Answer
    reasoning: tuple[Answer, ...]


@dataclass(frozen=True)
class _TileAnswer:
    """What the majority of the votes on one tile answered. ``data`` is the parsed JSON where ``is_json``."""

    text: str
    data: object
    is_json: bool
    reason: FinishReason
    votes: Sequence[_Vote]
    counts: VoteCounts


class _Abandoned(Exception):
    """Another vote failed, so this one was stopped."""


def run_task(vlm: VLM, images: Images, request: TaskRequest, options: Options | None = None) -> TaskResult:
    """Ask about images as the request says. Raises as ``VLM.ask`` does."""
    given = options or Options()
    effective = request.options(given)
    if request.votes > 1 and not effective.temperature:
        effective = _with_sampling(effective, vlm.family.voting)
    vlm.grammar(effective)
    opened = [open_image(image) for image in as_list(images)]
    request.check_image_count(len(opened))
    tiles = _tiles(opened, request.tiles)
    merge: MergeRule = request.task.merge if request.task is not None and given.schema is None else "none"
    answers = [_majority_answer(vlm, votes, effective) for votes in _all_votes(vlm, tiles, request, effective)]
    return request.with_corrected_total(_merge(opened, tiles, answers, merge, effective, vlm.family))


def _with_sampling(options: Options, voting: SamplingParams) -> Options:
    """The options with sampling, because greedy decoding would make all votes equal."""
    return replace(
        options.with_defaults({"top_p": voting.top_p, "top_k": voting.top_k}), temperature=voting.temperature
    )


def _tiles(images: Sequence[Image], tiles: Tiles | None) -> list[list[Image]]:
    """The images of each conversation: all of them, or one tile each. Tiles refer to the image that is asked about,
    even if it was itself made from another.
    """
    if tiles is None:
        return [list(images)]
    return [[tile] for tile in cut_tiles(replace(images[0], transform=None), tiles)]


def _all_votes(vlm: VLM, tiles: Sequence[Sequence[Image]], request: TaskRequest, options: Options) -> list[list[_Vote]]:
    """All votes, tile by tile. If one fails, or the caller is interrupted, the others stop at their next token."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(MAX_PARALLEL, "vlrun-vote")
    try:
        futures = [
            [pool.submit(_vote, vlm, tile, request, options, number, stop) for number in range(request.votes)]
            for tile in tiles
        ]
        done, _ = wait([future for tile in futures for future in tile], return_when=FIRST_EXCEPTION)
        for future in done:
            if (error := future.exception()) and not isinstance(error, _Abandoned):
                raise error
        return [[future.result() for future in tile] for tile in futures]
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _vote(
    vlm: VLM, images: Sequence[Image], request: TaskRequest, options: Options, number: int, stop: threading.Event
) -> _Vote:
    """One answer in a conversation of its own. If it fails, the other votes are stopped too."""
    *first, last = request.questions()
    seeded = options if options.seed is None else replace(options, seed=(options.seed + number) % (MAX_SEED + 1))
    free_text = replace(seeded, schema=None, heatmap=False)
    conversation = Conversation(vlm)
    reasoning = []
    new_images: Sequence[Image] = images
    try:
        for question in first:
            reasoning.append(_read(conversation.stream(question, new_images, free_text), stop))
            new_images = ()
        return _Vote(_read(conversation.stream(last, new_images, seeded), stop), tuple(reasoning))
    except BaseException:
        stop.set()
        raise


def _read(chunks: Generator[Chunk], stop: threading.Event) -> Answer:
    with closing(chunks):
        while not stop.is_set():
            chunk = next(chunks)
            if chunk.answer:
                return chunk.answer
    raise _Abandoned


def _majority_answer(vlm: VLM, votes: Sequence[_Vote], options: Options) -> _TileAnswer:
    """The most frequent answer. Answers that were cut short do not count, unless all were."""
    answers = [vote.answer for vote in votes]
    complete = [answer for answer in answers if answer.finish_reason == "stop"]
    if options.schema is None or not complete:
        counted = complete or answers
        texts = [answer.text.strip() for answer in counted]
        chosen = counted[texts.index(Counter(texts).most_common(1)[0][0])]
        return _TileAnswer(chosen.text, None, False, chosen.finish_reason, votes, {"": Counter(texts)})
    values = [json.loads(answer.text) for answer in complete]
    counts: dict[str, Mapping[str, int]] = {}
    value = majority(values, "", counts)
    if not _validates(vlm, as_json(value), options):  # no vote gave this combination, and the schema does not allow it
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
    answers = tuple(answer for vote in votes for answer in (*vote.reasoning, vote.answer))
    reasons = [tile.reason for tile in tile_answers if tile.reason != "stop"]
    cut = sum(answer.finish_reason != "stop" for answer in answers)
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    if cut and not reasons:
        notes[f"{cut} of {len(answers)} answers were cut short and did not count"] = None
    marks = tuple(_marks(images, tiles, tile_answers, family))
    text, value = _merge_text(images[:1], tile_answers, merge, marks, family)
    return TaskResult(
        text,
        _typed_value(text, value, options),
        answers,
        reasons[0] if reasons else "stop",
        tuple(tile.counts for tile in tile_answers) if len(votes) > len(tiles) else (),
        tuple(in_original(mark, images[0]) for mark in marks),
        tuple(thought.text for vote in votes for thought in vote.reasoning),
        tuple(notes),
    )


def _marks(
    images: Sequence[Image], tiles: Sequence[Sequence[Image]], tile_answers: Sequence[_TileAnswer], family: ModelFamily
) -> Iterator[Mark]:
    """Boxes and points in pixels of the image that was asked about; none if there are several images."""
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
    """The answers about all tiles as one text, and its data if it is JSON."""
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


def _typed_value(text: str, data: object, options: Options) -> object:
    """The data as the type given as schema, if one was given and the merged answer still fits it."""
    if isinstance(options.schema, type):
        with suppress(OptionError):
            return value_of(text, options.schema)
    return data


def _validates(vlm: VLM, text: str, options: Options) -> bool:
    """Return whether JSON text validates against the schema of the options."""
    grammar = vlm.grammar(options)
    if grammar is None:
        return True
    constraint = grammar.constraint()
    try:
        for token in vlm.template.encode_text(text):
            constraint.accept(token)
    except OptionError:
        return False
    return constraint.complete
