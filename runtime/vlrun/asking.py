"""Asking with care: a task by name, region by region, several votes, reasoning first; and what comes of it, as one.

All answers of one inquiry run together, and share what they have in common. Knows tasks, options and answers; does not
know how an answer is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlrun.answer import Answer, Options
from vlrun.conversation import Conversation
from vlrun.errors import OptionError
from vlrun.media.image import Picture, open_picture
from vlrun.media.region import Tiles, cut_tiles
from vlrun.question import DEFAULT_QUESTION, Pictures, listed
from vlrun.tasks import NO_NAMES, Names, Task, check_names, language_of
from vlrun.text.grounding import Mark, find_marks

if TYPE_CHECKING:
    from vlrun.vlm import VLM

MOST_VOTES = 16
TOGETHER = 8
"""Answers that run at once, as many as the engine takes into one call."""
VOTING_TEMPERATURE, VOTING_TOP_P, VOTING_TOP_K = 0.7, 0.8, 20
"""Where an answer would be greedy, votes are drawn as Qwen advises for its Instruct models with pictures."""

FIRST_THINK = {
    "en": "Think step by step: say what you see that matters for this question, part by part.",
    "zh": "请一步一步思考：逐个部分说出与问题有关的内容。",
}
THEN_ANSWER = {"en": "Now give only the answer.", "zh": "现在只给出答案。"}

Spread = Mapping[str, Mapping[str, int]]
"""How often each value was answered: by its place in the answer, and as JSON. The whole answer's place is empty."""


@dataclass(frozen=True)
class Inquiry:
    """What to ask, and how carefully. ``question`` is asked as it is, or added to what the ``task`` says.

    ``tiles``: asked of each part of the picture by itself, and the answers merged; ``votes``: so many answers, of which
    the most frequent wins; ``steps``: reasoning in words first, then the answer.
    """

    question: str | None = None
    task: Task | None = None
    names: Names = NO_NAMES
    tiles: Tiles | None = None
    votes: int = 1
    steps: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= MOST_VOTES:
            raise OptionError(f"votes must lie between 1 and {MOST_VOTES}, not {self.votes}")
        if self.task is not None:
            check_names(self.task, self.names)
        elif self.names != NO_NAMES:
            raise OptionError("items and fields belong to a task: choose one")
        if self.tiles is not None and self.task is not None and self.task.merge == "none":
            raise OptionError("the answers of this task about parts of a picture cannot be merged: leave out the tiles")

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
        options = given if self.task is None else _of_task(given, self.task, self.names)
        if self.votes > 1:
            if given.temperature == 0:
                raise OptionError("with temperature 0 all votes are the same: leave it out, or ask for one vote")
            drawn = replace(options, temperature=VOTING_TEMPERATURE, top_p=VOTING_TOP_P, top_k=VOTING_TOP_K)
            options = options if options.temperature else drawn
        return options


@dataclass(frozen=True)
class Result:
    """What came of an inquiry. ``value``: the answer as data where it has a form; ``answers``: all that were made, part
    by part and vote by vote; ``spread``: how the votes fell, of each part; ``marks`` in pixels of the first picture as
    it was given; ``reasoning``: what was said first, of each answer; ``notes``: what there is to tell the user.
    """

    text: str
    value: object
    answers: tuple[Answer, ...]
    spread: tuple[Spread, ...] = ()
    marks: tuple[Mark, ...] = ()
    reasoning: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every answer came to its own end."""
        return all(answer.finish_reason == "stop" for answer in self.answers)


def inquire(vlm: VLM, pictures: Pictures, inquiry: Inquiry, options: Options | None = None) -> Result:
    """Ask about pictures as the inquiry says. Raises as ``VLM.ask`` does."""
    options = inquiry.options(options or Options())
    shown = [open_picture(picture) for picture in listed(pictures)]
    check_pictures(inquiry, len(shown))
    parts = _parts(shown, inquiry.tiles)
    with ThreadPoolExecutor(TOGETHER, "vlrun-ask") as pool:
        voices = [
            [pool.submit(_ask, vlm, part, inquiry, options, vote) for vote in range(inquiry.votes)] for part in parts
        ]
        voted = [_voted([voice.result() for voice in part]) for part in voices]
    return finish(_merged(shown, parts, voted, inquiry), inquiry)


def check_pictures(inquiry: Inquiry, pictures: int) -> None:
    """Raise OptionError if the inquiry needs another number of pictures."""
    if inquiry.task is not None and pictures < inquiry.task.pictures:
        raise OptionError(f"this task needs at least {inquiry.task.pictures} pictures")
    if inquiry.tiles is not None and pictures != 1:
        raise OptionError("tiles are cut out of one picture, not of several")


def finish(result: Result, inquiry: Inquiry) -> Result:
    """The result with a total that is the sum of its items, and the difference told."""
    value = result.value
    if inquiry.task is None or inquiry.task.merge != "sum" or not isinstance(value, dict):
        return result
    items, total = value.get("items"), value.get("total")
    if not isinstance(items, dict) or not all(isinstance(number, int) for number in items.values()):
        return result
    summed = sum(items.values())
    if summed == total:
        return replace(result, text=_json(value))
    corrected = {**value, "total": summed}
    note = f"the total was answered as {total}, but the items sum up to {summed}: told is the sum"
    return replace(result, value=corrected, text=_json(corrected), notes=(*result.notes, note))


def single(answer: Answer) -> Result:
    """One answer as a result."""
    return Result(answer.text, answer.value, (answer,), marks=answer.marks, notes=answer.notes)


@dataclass(frozen=True)
class _Voice:
    """One answer, with the reasoning before it."""

    answer: Answer
    earlier: tuple[Answer, ...]


@dataclass(frozen=True)
class _Voted:
    """What the voices about one part agreed on; ``chosen``: one who said so, or nearly."""

    text: str
    value: object
    chosen: Answer
    voices: Sequence[_Voice]
    spread: Spread


def _of_task(given: Options, task: Task, names: Names) -> Options:
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
    if task.image_tokens is None or given.max_image_tokens is not None or given.detail != "auto":
        return options
    least, most = task.image_tokens
    return replace(options, min_image_tokens=given.min_image_tokens or least, auto_image_tokens=most)


def _parts(pictures: Sequence[Picture], tiles: Tiles | None) -> list[list[Picture]]:
    """What is asked about, one after the other. Tiles lie in the picture that is asked about, whatever that lies in."""
    if tiles is None:
        return [list(pictures)]
    return [[tile] for tile in cut_tiles(replace(pictures[0], made_in=None), tiles)]


def _ask(vlm: VLM, pictures: Sequence[Picture], inquiry: Inquiry, options: Options, vote: int) -> _Voice:
    *earlier, last = inquiry.questions()
    seeded = options if options.seed is None else replace(options, seed=options.seed + vote)
    free = replace(seeded, schema=None, heatmap=False)
    conversation = Conversation(vlm)
    thoughts = []
    shown: Sequence[Picture] = pictures
    for question in earlier:
        thoughts.append(conversation.ask(question, shown, free))
        shown = ()
    return _Voice(conversation.ask(last, shown, seeded), tuple(thoughts))


def _voted(voices: Sequence[_Voice]) -> _Voted:
    """The most frequent answer. Those that were cut short have no voice, unless all were."""
    answers = [voice.answer for voice in voices]
    whole = [answer for answer in answers if answer.finish_reason == "stop"] or answers
    if any(answer.value is None for answer in whole):
        texts = [answer.text.strip() for answer in whole]
        text = Counter(texts).most_common(1)[0][0]
        chosen = whole[texts.index(text)]
        return _Voted(chosen.text, None, chosen, voices, {"": Counter(texts)} if len(voices) > 1 else {})
    spread: dict[str, Mapping[str, int]] = {}
    value = _majority([answer.value for answer in whole], "", spread)
    chosen = next((answer for answer in whole if answer.value == value), whole[0])
    text = chosen.text if chosen.value == value else _json(value)
    return _Voted(text, value, chosen, voices, spread if len(voices) > 1 else {})


def _majority(values: Sequence[object], place: str, spread: dict[str, Mapping[str, int]]) -> object:
    """The most frequent value; of objects with the same names, that of each name. Of numbers equally frequent the
    middle one wins, else the first.
    """
    first = values[0]
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        inside = f"{place}." if place else ""
        return {
            name: _majority([value[name] for value in values if isinstance(value, dict)], f"{inside}{name}", spread)
            for name in first
        }
    counts = Counter(_json(value) for value in values)
    spread[place] = counts
    most = max(counts.values())
    best = [json.loads(text) for text, count in counts.items() if count == most]
    if all(isinstance(value, int | float) for value in best):
        best.sort()
        return best[(len(best) - 1) // 2]
    return best[0]


def _merged(
    pictures: Sequence[Picture], parts: Sequence[Sequence[Picture]], voted: Sequence[_Voted], inquiry: Inquiry
) -> Result:
    answers = tuple(answer for part in voted for voice in part.voices for answer in (*voice.earlier, voice.answer))
    reasoning = tuple(thought.text for part in voted for voice in part.voices for thought in voice.earlier)
    spread = tuple(part.spread for part in voted) if inquiry.votes > 1 else ()
    notes = tuple(dict.fromkeys(note for answer in answers for note in answer.notes))
    if inquiry.tiles is None:
        part = voted[0]
        return Result(part.text, part.value, answers, spread, part.chosen.marks, reasoning, notes)
    whole = pictures[0]
    placed = [
        mark
        for (tile,), part in zip(parts, voted, strict=True)
        for mark in find_marks(part.text, tile.size, tile.frame)
    ]
    marks = tuple(_in_original(mark, whole) for mark in placed)
    texts = [f"[{number}/{len(voted)}] {part.text}" for number, part in enumerate(voted, 1)]
    values = [part.value for part in voted]
    if any(value is None for value in values):
        return Result("\n".join(texts), None, answers, spread, marks, reasoning, notes)
    merge = inquiry.task.merge if inquiry.task is not None else "none"
    value: object = values  # a form of the user's own: one answer for each part
    if merge == "boxes":
        value = [_in_thousandths(mark, whole) for mark in placed if mark.box]
    elif merge in ("sum", "first"):
        value = _summed(values) if merge == "sum" else _first_of(values)
    return Result(_json(value), value, answers, spread, marks, reasoning, notes)


def _summed(values: Sequence[object]) -> object:
    """Numbers added up, name by name."""
    if all(isinstance(value, dict) for value in values):
        tables = [value for value in values if isinstance(value, dict)]
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: _summed([table[name] for table in tables if name in table]) for name in names}
    return sum(value for value in values if isinstance(value, int | float))


def _first_of(values: Sequence[object]) -> object:
    """Of every field the first that is not empty."""
    tables = [value for value in values if isinstance(value, dict)]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: next((table[name] for table in tables if table.get(name)), "") for name in names}


def _in_thousandths(mark: Mark, whole: Picture) -> Mapping[str, object]:
    """A box in Qwen's own way of writing, relative to the picture that was asked about."""
    sides = (*whole.size, *whole.size)
    edges = [round(edge / side * 1000) for edge, side in zip(mark.box or (), sides, strict=False)]
    return {"bbox_2d": edges, "label": mark.label}


def _in_original(mark: Mark, whole: Picture) -> Mark:
    """A mark in the picture that was asked about, in the one that was given."""
    frame = whole.frame
    return replace(
        mark,
        box=frame.box(*mark.box) if mark.box else None,
        point=frame.point(*mark.point) if mark.point else None,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
