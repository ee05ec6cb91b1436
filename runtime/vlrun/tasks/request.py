"""Asking with care: a task by name, region by region, several votes, reasoning first; and what comes of it, as one.

All answers of one inquiry run together, and share what they have in common. Knows tasks, options and answers; does not
know how an answer is made.
"""

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
from vlrun.prompt.builder import DEFAULT_QUESTION, Images, as_list
from vlrun.structured.python_types import value_of
from vlrun.tasks.aggregation import (
    Spread,
    as_json,
    first_of,
    in_original,
    majority,
    most_frequent,
    summed,
)
from vlrun.tasks.definition import NO_ARGUMENTS, Task, TaskArguments, check_names, language_of
from vlrun.types.answer import Answer, Chunk, FinishReason
from vlrun.types.mark import Mark
from vlrun.types.options import Options
from vlrun.types.sampling import MAX_SEED, SamplingParams

if TYPE_CHECKING:
    from vlrun.vlm import VLM

MOST_VOTES = 16
TOGETHER = 8
"""Answers that run at once, as many as the engine takes into one call."""

FIRST_THINK = {
    "en": "Think step by step: say what you see that matters for this question, part by part.",
    "zh": "请一步一步思考：逐个部分说出与问题有关的内容。",
}
THEN_ANSWER = {"en": "Now give only the answer.", "zh": "现在只给出答案。"}


@dataclass(frozen=True)
class TaskRequest:
    """What to ask, and how carefully. ``question`` is asked as it is, or added to what the ``task`` says.

    ``tiles``: asked of each part of the image by itself, and the answers merged; ``votes``: so many answers, of which
    the most frequent wins; ``steps``: reasoning in words first, then the answer.
    """

    question: str | None = None
    task: Task | None = None
    names: TaskArguments = NO_ARGUMENTS
    tiles: Tiles | None = None
    votes: int = 1
    steps: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= MOST_VOTES:
            raise OptionError(f"votes must lie between 1 and {MOST_VOTES}, not {self.votes}")
        if self.task is not None:
            check_names(self.task, self.names)
        elif self.names != NO_ARGUMENTS:
            raise OptionError("items and fields belong to a task: choose one")
        if self.tiles is not None and self.task is not None and self.task.merge == "none":
            raise OptionError("the answers of this task about parts of an image cannot be merged: leave out the tiles")

    @property
    def summed(self) -> bool:
        """Whether the answer has a total, which is told when all of it is there."""
        return self.task is not None and self.task.merge == "sum"

    @property
    def plain(self) -> bool:
        """Whether it is one question with one answer, which can be streamed as it comes."""
        return self.tiles is None and self.votes == 1 and not self.steps

    def questions(self) -> tuple[str, ...]:
        """What is asked, one turn after the other."""
        language = language_of(self.question or "", *self.names.items, *self.names.fields)
        if self.task is not None:
            final = self.task.question(language, self.names, self.question or "")
            first = self.task.steps_question(language, self.names, FIRST_THINK[language])
            return (first, final) if self.steps else (final,)
        question = self.question or DEFAULT_QUESTION
        if self.steps:
            return f"{question}\n{FIRST_THINK[language]}", THEN_ANSWER[language]
        return (question,)

    def options(self, given: Options) -> Options:
        """The options of its answers: what the caller gave, then what the task says. Raises OptionError."""
        if self.votes > 1 and given.temperature == 0:
            raise OptionError("with temperature 0 all votes are the same: leave it out, or ask for one vote")
        return given if self.task is None else _of_task(given, self.task, self.names)


@dataclass(frozen=True)
class TaskResult:
    """What came of an inquiry. ``value``: the answer as data where it has a form; ``answers``: all that were made, part
    by part and vote by vote; ``spread``: how the votes fell, of each part; ``marks`` in pixels of the image as it
    was given, none where there are several; ``reasoning``: what was said first, of each answer; ``notes``: what there
    is to tell the user; ``finish_reason``: ``stop`` if what it is made of came to its own end.
    """

    text: str
    value: object
    answers: tuple[Answer, ...]
    finish_reason: FinishReason
    spread: tuple[Spread, ...] = ()
    marks: tuple[Mark, ...] = ()
    reasoning: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def run_task(vlm: VLM, images: Images, inquiry: TaskRequest, options: Options | None = None) -> TaskResult:
    """Ask about images as the inquiry says. Raises as ``VLM.ask`` does."""
    given = options or Options()
    asked = inquiry.options(given)
    if inquiry.votes > 1 and not asked.temperature:
        asked = _sampled(asked, vlm.family.voting)
    vlm.check(asked)
    shown = [open_image(image) for image in as_list(images)]
    check_images(inquiry, len(shown))
    parts = _parts(shown, inquiry.tiles)
    merge = inquiry.task.merge if inquiry.task is not None and given.schema is None else "none"
    voted = [_voted(vlm, voices, asked) for voices in _voices(vlm, parts, inquiry, asked)]
    return finish(_merged(shown, parts, voted, merge, asked, vlm.family), inquiry)


def _voices(vlm: VLM, parts: Sequence[Sequence[Image]], inquiry: TaskRequest, options: Options) -> list[list[_Voice]]:
    """All answers, part by part. If one fails, or the caller is interrupted, the others stop at their next token."""
    stopped = threading.Event()
    pool = ThreadPoolExecutor(TOGETHER, "vlrun-ask")
    try:
        asked = [
            [pool.submit(_ask, vlm, part, inquiry, options, vote, stopped) for vote in range(inquiry.votes)]
            for part in parts
        ]
        done, _ = wait([voice for part in asked for voice in part], return_when=FIRST_EXCEPTION)
        for voice in done:
            if (error := voice.exception()) and not isinstance(error, _GivenUp):
                raise error
        return [[voice.result() for voice in part] for part in asked]
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def check_images(inquiry: TaskRequest, images: int) -> None:
    """Raise OptionError if the inquiry needs another number of images."""
    if inquiry.task is not None and images < inquiry.task.images:
        raise OptionError(f"this task needs at least {inquiry.task.images} images")
    if inquiry.tiles is not None and images != 1:
        raise OptionError("tiles are cut out of one image, not of several")


def finish(result: TaskResult, inquiry: TaskRequest) -> TaskResult:
    """The result with a total that is the sum of its items, and the difference told."""
    value = result.value
    if not inquiry.summed or not isinstance(value, dict):
        return result
    items, total = value.get("items"), value.get("total")
    if not isinstance(items, dict) or not all(isinstance(number, int) for number in items.values()):
        return result
    added = sum(items.values())
    if added == total:
        return replace(result, text=as_json(value))
    corrected = {**value, "total": added}
    note = f"the total was answered as {total}, but the items sum up to {added}: told is the sum"
    return replace(result, value=corrected, text=as_json(corrected), notes=(*result.notes, note))


def single(answer: Answer) -> TaskResult:
    """One answer as a result."""
    return TaskResult(
        answer.text, answer.value, (answer,), answer.finish_reason, marks=answer.marks, notes=answer.notes
    )


class _GivenUp(Exception):
    """Another answer failed, and this one is not wanted any more."""


@dataclass(frozen=True)
class _Voice:
    """One answer, with the reasoning before it."""

    answer: Answer
    earlier: tuple[Answer, ...]


@dataclass(frozen=True)
class _Voted:
    """What the voices about one part agreed on: ``data`` is that of its JSON, ``formed`` whether it is any."""

    text: str
    data: object
    formed: bool
    reason: FinishReason
    voices: Sequence[_Voice]
    spread: Spread


def _sampled(options: Options, voting: SamplingParams) -> Options:
    """Options with the sampling for votes, which would all be the same if decoding were greedy."""
    return replace(
        options,
        temperature=voting.temperature,
        top_p=voting.top_p if options.top_p is None else options.top_p,
        top_k=voting.top_k if options.top_k is None else options.top_k,
    )


def _of_task(given: Options, task: Task, names: TaskArguments) -> Options:
    sampling = task.sampling
    options = replace(
        given,
        max_tokens=given.max_tokens or sampling.max_tokens,
        temperature=sampling.temperature if given.temperature is None else given.temperature,
        presence_penalty=sampling.presence_penalty if given.presence_penalty is None else given.presence_penalty,
        repetition_penalty=(
            sampling.repetition_penalty if given.repetition_penalty is None else given.repetition_penalty
        ),
        schema=task.form(names) if given.schema is None else given.schema,
    )
    if task.image_tokens is None or given.max_image_tokens is not None or given.detail == "low":
        return options
    least, most = task.image_tokens
    return replace(options, min_image_tokens=given.min_image_tokens or least, auto_image_tokens=most)


def _parts(images: Sequence[Image], tiles: Tiles | None) -> list[list[Image]]:
    """What is asked about, one after the other. Tiles lie in the image that is asked about, whatever that lies in."""
    if tiles is None:
        return [list(images)]
    return [[tile] for tile in cut_tiles(replace(images[0], made_in=None), tiles)]


def _ask(
    vlm: VLM, images: Sequence[Image], inquiry: TaskRequest, options: Options, vote: int, stopped: threading.Event
) -> _Voice:
    """One answer. If it fails, the others are given up too."""
    *earlier, last = inquiry.questions()
    seeded = options if options.seed is None else replace(options, seed=(options.seed + vote) % (MAX_SEED + 1))
    free = replace(seeded, schema=None, heatmap=False)
    conversation = Conversation(vlm)
    thoughts = []
    shown: Sequence[Image] = images
    try:
        for question in earlier:
            thoughts.append(_said(conversation.stream(question, shown, free), stopped))
            shown = ()
        return _Voice(_said(conversation.stream(last, shown, seeded), stopped), tuple(thoughts))
    except BaseException:
        stopped.set()
        raise


def _said(chunks: Generator[Chunk], stopped: threading.Event) -> Answer:
    with closing(chunks):
        while not stopped.is_set():
            chunk = next(chunks)
            if chunk.answer:
                return chunk.answer
    raise _GivenUp


def _voted(vlm: VLM, voices: Sequence[_Voice], options: Options) -> _Voted:
    """The most frequent answer. Those that were cut short have no voice, unless all were."""
    answers = [voice.answer for voice in voices]
    whole = [answer for answer in answers if answer.finish_reason == "stop"]
    counted = whole or answers
    if options.schema is None or not whole:
        texts = [answer.text.strip() for answer in counted]
        text = Counter(texts).most_common(1)[0][0]
        chosen = counted[texts.index(text)]
        spread: Spread = {"": Counter(texts)}
        return _Voted(chosen.text, None, False, chosen.finish_reason, voices, spread)
    values = [json.loads(answer.text) for answer in whole]
    places: dict[str, Mapping[str, int]] = {}
    value = majority(values, "", places)
    if not vlm.holds(as_json(value), options):  # no answer says all of it, and the form does not allow it
        value, places = most_frequent(values), {"": Counter(map(as_json, values))}
    return _Voted(as_json(value), value, True, "stop", voices, places)


def _merged(
    images: Sequence[Image],
    parts: Sequence[Sequence[Image]],
    voted: Sequence[_Voted],
    merge: str,
    options: Options,
    family: ModelFamily,
) -> TaskResult:
    voices = [voice for part in voted for voice in part.voices]
    answers = tuple(answer for voice in voices for answer in (*voice.earlier, voice.answer))
    reasons = [part.reason for part in voted if part.reason != "stop"]
    cut = sum(answer.finish_reason != "stop" for answer in answers)
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    if cut and not reasons:
        notes[f"{cut} of {len(answers)} answers were cut short; the others decided"] = None
    marks = tuple(_marks(images, parts, voted, family))
    text, value = _joined(images[:1], voted, merge, marks, family)
    return TaskResult(
        text,
        _as_asked(text, value, options),
        answers,
        reasons[0] if reasons else "stop",
        tuple(part.spread for part in voted) if len(voices) > len(parts) else (),
        tuple(in_original(mark, images[0]) for mark in marks),
        tuple(thought.text for voice in voices for thought in voice.earlier),
        tuple(notes),
    )


def _marks(
    images: Sequence[Image], parts: Sequence[Sequence[Image]], voted: Sequence[_Voted], family: ModelFamily
) -> Iterator[Mark]:
    """Places that the answers name, in pixels of the image that was asked about; none where there are several."""
    if len(images) != 1:
        return
    for (shown,), part in zip(parts, voted, strict=True):
        frame = shown.frame if len(parts) > 1 else ImageTransform(shown.size)
        yield from family.find_marks(part.text, shown.size, frame)


def _joined(
    whole: Sequence[Image], voted: Sequence[_Voted], merge: str, marks: Sequence[Mark], family: ModelFamily
) -> tuple[str, object]:
    """The answers about all parts as one text, and its data if it is JSON."""
    if len(voted) == 1:
        return voted[0].text, voted[0].data
    if not all(part.formed for part in voted):
        return "\n".join(f"[{number}/{len(voted)}] {part.text}" for number, part in enumerate(voted, 1)), None
    value: object = [part.data for part in voted]  # a form of the user's own: one answer for each part
    if merge == "boxes":
        value = [family.format_box(mark, whole[0].size) for mark in marks if mark.box]
    elif merge in ("sum", "first"):
        data = [part.data for part in voted]
        value = summed(data) if merge == "sum" else first_of(data)
    return as_json(value), value


def _as_asked(text: str, data: object, options: Options) -> object:
    """The data as the type that was asked for, if it was one; the merged answers of tiles may be no such thing."""
    if isinstance(options.schema, type):
        with suppress(OptionError):
            return value_of(text, options.schema)
    return data
