"""Task requests (a question or task, with votes, tiles and reasoning steps) and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, get_args

import msgspec

from vlrun.errors import OptionError
from vlrun.media.region import Tiles
from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.tasks.aggregation import as_json
from vlrun.tasks.definition import NO_ARGUMENTS, Language, Task, TaskArguments, check_arguments, language_of
from vlrun.types.answer import Answer, FinishReason
from vlrun.types.arguments import check_fields, flag, instance, one_of, optional, text, whole_number
from vlrun.types.mark import Mark
from vlrun.types.options import Options
from vlrun.types.turn import Turn, system_turns

MAX_VOTES = 16

REASON_FIRST = {
    "en": "Think step by step: say what you see that matters for this question, part by part.",
    "zh": "请一步一步思考：逐个部分说出与问题有关的内容。",
}
DEFAULT_QUESTIONS = {"en": DEFAULT_QUESTION, "zh": "描述这张图片。"}
THEN_ANSWER = {"en": "Now give only the answer.", "zh": "现在只给出答案。"}

VoteCounts: TypeAlias = Mapping[str, Mapping[str, int]]
"""Votes by path within the answer ("" for the whole answer) and value as JSON."""


@dataclass(frozen=True)
class TaskRequest:
    """A question or task about images.

    Attributes:
        question: The question; with a ``task``, text below the task's prompt.
        arguments: Items or fields of the task.
        tiles: Ask about each tile of the image separately, then merge the answers.
        votes: Number of answers; the majority wins.
        steps: Ask for the reasoning first, then for the answer.
        system: The system prompt.
        language: The language of the prompts that vlrun adds; None for that of the question, items and fields.

    Raises:
        OptionError: The values contradict each other or the task.
    """

    question: str | None = None
    task: Task | None = None
    arguments: TaskArguments = NO_ARGUMENTS
    tiles: Tiles | None = None
    votes: int = 1
    steps: bool = False
    system: str | None = None
    language: Language | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "question": optional(text),
                "task": optional(instance(Task)),
                "arguments": instance(TaskArguments),
                "tiles": optional(instance(Tiles)),
                "votes": whole_number,
                "steps": flag,
                "system": optional(text),
                "language": optional(one_of(get_args(Language))),
            },
        )
        if not 1 <= self.votes <= MAX_VOTES:
            raise OptionError(f"votes must lie between 1 and {MAX_VOTES}, not {self.votes}")
        if self.task is not None:
            check_arguments(self.task, self.arguments)
        elif self.arguments != NO_ARGUMENTS:
            raise OptionError("items and fields belong to a task: choose a task")
        if self.tiles is not None and self.task is not None and self.task.merge == "none":
            raise OptionError("the answers of this task cannot be merged: leave out the tiles")

    @property
    def has_total(self) -> bool:
        """Whether the answer has a total that may be corrected, so that it cannot be streamed."""
        return self.task is not None and self.task.merge == "sum"

    @property
    def is_single(self) -> bool:
        """Whether the request is one question with one answer."""
        return self.tiles is None and self.votes == 1 and not self.steps

    @property
    def conversations(self) -> int:
        """Number of conversations that can run at once: the votes on all tiles."""
        return (self.tiles.columns * self.tiles.rows if self.tiles else 1) * self.votes

    @property
    def answer_count(self) -> int:
        """Number of answers that the model gives."""
        return self.conversations * len(self.questions())

    def questions(self) -> tuple[str, ...]:
        """Return the questions, one per turn of a conversation; the last one asks for the answer."""
        language = self.language or language_of(self.question or "", *self.arguments.items, *self.arguments.fields)
        if self.task is not None:
            last = self.task.question(language, self.arguments, self.question or "")
            first = self.task.steps_question(language, self.arguments, REASON_FIRST[language])
            return (first, last) if self.steps else (last,)
        question = self.question or DEFAULT_QUESTIONS[language]
        if self.steps:
            return f"{question}\n{REASON_FIRST[language]}", THEN_ANSWER[language]
        return (question,)

    def opening(self) -> tuple[Turn, ...]:
        """Return the turns before the first question: the system prompt, if there is one."""
        return system_turns(self.system)

    def options(self, given: Options) -> Options:
        """Return the caller's options with the task's defaults. Raises OptionError."""
        if self.votes > 1 and given.temperature == 0:
            raise OptionError("with temperature 0 all votes are the same: leave it out, or ask for one vote")
        if self.task is None:
            return given
        defaults = msgspec.structs.asdict(self.task.sampling) | {"schema": self.task.answer_schema(self.arguments)}
        options = given.with_defaults(defaults)
        if self.task.image_tokens is None or given.max_image_tokens is not None or given.detail == "low":
            return options
        minimum, maximum = self.task.image_tokens
        return replace(options.with_defaults({"min_image_tokens": minimum}), auto_image_tokens=maximum)

    def check_image_count(self, count: int) -> None:
        """Raise OptionError if the request needs a different number of images."""
        if self.task is not None and count < self.task.images:
            raise OptionError(f"this task needs at least {self.task.images} images")
        if self.tiles is not None and count != 1:
            raise OptionError("tiles need exactly one image")

    def result_of(self, answer: Answer) -> TaskResult:
        """Return the result of a request with a single answer."""
        result = TaskResult(
            answer.text, answer.value, (answer,), answer.finish_reason, marks=answer.marks, notes=answer.notes
        )
        return self.with_corrected_total(result)

    def with_corrected_total(self, result: TaskResult) -> TaskResult:
        """Return the result with a total that is the sum of the items; a note reports a correction."""
        value = result.value
        if not self.has_total or not isinstance(value, dict):
            return result
        items, total = value.get("items"), value.get("total")
        if not isinstance(items, dict) or not all(isinstance(number, int) for number in items.values()):
            return result
        actual = sum(items.values())
        result = replace(result, marks=tuple(replace(mark, span=None) for mark in result.marks))  # the text changes
        if actual == total:
            return replace(result, text=as_json(value))
        corrected = {**value, "total": actual}
        note = f"the model answered a total of {total}, but the items add up to {actual}; the total was corrected"
        return replace(result, value=corrected, text=as_json(corrected), notes=(*result.notes, note))


@dataclass(frozen=True)
class TaskResult:
    """The result of a task request.

    Attributes:
        text: The merged answer.
        value: The parsed answer, if it has a schema.
        answers: All answers, tile by tile and vote by vote.
        finish_reason: ``stop`` if the answers that were used are complete.
        vote_counts: The votes per tile; empty with a single vote.
        marks: Boxes and points in pixels of the original image; empty with several images.
        reasoning: The reasoning before each answer.
        notes: Messages for the user.
    """

    text: str
    value: object
    answers: tuple[Answer, ...]
    finish_reason: FinishReason
    vote_counts: tuple[VoteCounts, ...] = ()
    marks: tuple[Mark, ...] = ()
    reasoning: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
