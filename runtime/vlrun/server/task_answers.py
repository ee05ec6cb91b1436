"""Answers to task requests in the service: one answer, or the merged one of all votes on all tiles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from vlrun.each import MAX_PARALLEL
from vlrun.engine.request import Cancellation
from vlrun.tasks.request import TaskRequest, TaskResult, VoteCounts
from vlrun.tasks.run import RunControl, TaskImages, run_prepared
from vlrun.types.answer import Answer, Chunk, Progress, Usage
from vlrun.types.options import Options
from vlrun.vlm import VLM


@dataclass(frozen=True)
class TaskAnswer(Answer):
    """The result of a task request as an answer, with the usage of all its answers and the timings of the slowest.

    Attributes:
        votes: The votes for each value, per tile; empty with a single vote.
        steps: The reasoning before each of several answers.
    """

    votes: tuple[VoteCounts, ...] = ()
    steps: tuple[str, ...] = ()


def task_answer(result: TaskResult) -> TaskAnswer:
    """Make an answer of a result. What only a single answer has, such as its heat map, a merged one has not."""
    slowest = max(result.answers, key=lambda answer: answer.timings.total)
    single = len(result.answers) == 1
    thoughts = tuple(answer.reasoning for answer in result.answers if answer.reasoning and not single)
    totals = {
        field.name: sum(getattr(answer.usage, field.name) for answer in result.answers) for field in fields(Usage)
    }
    return TaskAnswer(
        text=result.text,
        finish_reason=result.finish_reason,
        usage=Usage(**totals),
        timings=slowest.timings,
        notes=result.notes,
        value=result.value,
        marks=result.marks,
        heat=slowest.heat if single else None,
        logprobs=slowest.logprobs if single else (),
        reasoning=slowest.reasoning if single else "",
        stop=slowest.stop if single else None,
        votes=result.vote_counts,
        steps=(*result.reasoning, *thoughts),
    )


def single_answer(chunks: Iterable[Chunk], task: TaskRequest) -> Iterator[Chunk]:
    """The stream of a task with one answer. A text that may be corrected comes at its end."""
    for chunk in chunks:
        if chunk.answer is None:
            yield replace(chunk, text="") if task.has_total else chunk
        else:
            answer = task_answer(task.result_of(chunk.answer))
            yield replace(chunk, answer=answer, text=answer.text if task.has_total else chunk.text)


def merged_answer(
    vlm: VLM,
    images: TaskImages,
    task: TaskRequest,
    options: Options,
    cancellation: Cancellation,
    parallel: int,
    put: Callable[[Chunk], None],
) -> None:
    """Run a task with several answers, at most ``parallel`` of them at once. Pass on its notes and its progress, at the
    end its whole text and answer. Raises as ``run_task``.
    """
    passed_on: set[str] = set()
    lock = threading.Lock()

    def pass_on(notes: Sequence[str]) -> None:
        with lock:
            new = tuple(note for note in notes if note not in passed_on)
            passed_on.update(new)
        if new:
            put(Chunk("", notes=new))

    def report(progress: Progress) -> None:
        put(Chunk("", progress=progress))

    control = RunControl(min(parallel, MAX_PARALLEL), cancellation, pass_on, report)
    answer = task_answer(run_prepared(vlm, images, task, options, control))
    put(Chunk(answer.text, answer))
