"""Answering many sources at once: order, bounds, errors and cancellation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from vlrun.each import answer_each
from vlrun.engine.request import Cancellation
from vlrun.errors import DamagedMedia, DeviceError

PARALLEL = 3


def test_an_error_of_one_source_is_its_outcome() -> None:
    def answer(source: int, _: Cancellation) -> str:
        if source % 2:
            raise DamagedMedia(f"{source} is damaged")
        return str(source)

    outcomes = list(answer_each(range(20), answer, PARALLEL))
    assert [outcome.source for outcome in outcomes] == list(range(20))
    for number, outcome in enumerate(outcomes):
        assert outcome.answer == (None if number % 2 else str(number))
        assert str(outcome.error) == (f"{number} is damaged" if number % 2 else "None")


def test_as_many_run_at_once_as_wanted_and_no_more_are_taken() -> None:
    """All sources of a folder in memory would be its size."""
    taken, finished, running = 0, 0, 0
    all_there = threading.Barrier(PARALLEL)

    def sources() -> Iterator[int]:
        nonlocal taken
        for number in range(4 * PARALLEL):
            taken += 1
            assert taken - finished <= 2 * PARALLEL
            yield number

    def answer(_source: int, _: Cancellation) -> None:
        nonlocal running
        running += 1
        all_there.wait(30)  # fails unless as many run at once

    for _ in answer_each(sources(), answer, PARALLEL):
        finished += 1
    assert finished == running == 4 * PARALLEL


def test_an_error_of_the_device_ends_all_and_cancels_the_rest() -> None:
    cancelled: list[bool] = []
    waiting = threading.Event()

    def answer(source: int, cancellation: Cancellation) -> None:
        if source == 0:
            waiting.wait(30)
            raise DeviceError("the device failed")
        ended = threading.Event()
        cancellation.add_done_callback(lambda _: ended.set())
        waiting.set()
        cancelled.append(ended.wait(30))

    with pytest.raises(DeviceError, match="the device failed"):
        list(answer_each(range(2), answer, PARALLEL))
    for thread in threading.enumerate():
        if thread.name.startswith("vlrun-each"):
            thread.join(30)
    assert cancelled == [True]


def test_closing_cancels_what_runs() -> None:
    started, ended = threading.Event(), threading.Event()

    def answer(source: int, cancellation: Cancellation) -> int:
        if source == 0:
            started.wait(30)
        else:
            started.set()
            cancellation.add_done_callback(lambda _: ended.set())
            ended.wait(30)
        return source

    with closing(answer_each(range(9), answer, 2)) as outcomes:
        assert next(outcomes).source == 0
    assert ended.wait(30)
