"""Running task requests with votes, tiles and steps on a fake model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from vlrun.errors import EngineClosed, OptionError
from vlrun.media.image import Image, open_image
from vlrun.media.region import parse_tiles
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.structured.answer_checks import NO_CHECKS
from vlrun.tasks import run as task_runner
from vlrun.tasks.definition import TaskArguments, find_task
from vlrun.tasks.request import TaskRequest, TaskResult
from vlrun.tasks.run import run_task
from vlrun.types.answer import Answer, Chunk, FinishReason, Timings, Usage
from vlrun.types.options import Options
from vlrun.types.turn import Turn


@pytest.fixture(autouse=True)
def sequential_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run requests in order, since the fake model's answers are given in order."""
    monkeypatch.setattr(task_runner, "MAX_PARALLEL", 1)


COUNT = find_task("count")
BOTTLES = TaskArguments(items=("bottle", "can"))


class FakeGrammar:
    """A grammar whose tokens are whole texts; it forbids one of them."""

    complete = True
    checks = NO_CHECKS

    def __init__(self, forbidden: str) -> None:
        self.forbidden = forbidden

    def constraint(self) -> FakeGrammar:
        return self

    def accept(self, token: str) -> None:
        if token == self.forbidden:
            raise OptionError("this text does not match the schema")


class FakeTemplate:
    """Encodes a text as one token."""

    def encode_text(self, text: str) -> list[str]:
        return [text]


class FakeVLM:
    """A model that gives prepared answers in order and records its requests."""

    family = QWEN3_VL
    template = FakeTemplate()
    builder = SimpleNamespace(resize=lambda image, *_: image)

    def __init__(self, *texts: str, reason: FinishReason = "stop") -> None:
        self.texts, self.reasons = list(texts), [reason] * len(texts)
        self.requests: list[tuple[Sequence[Turn], Options]] = []
        self.refuses, self.forbids, self.fails_at = False, "", 0

    def grammar(self, _: Options) -> FakeGrammar:
        if self.refuses:
            raise OptionError("no such schema")
        return FakeGrammar(self.forbids)

    def chat(self, turns: Sequence[Turn], options: Options, *_: object) -> Iterator[Chunk]:
        self.requests.append((turns, options))
        if len(self.requests) == self.fails_at:
            raise EngineClosed("closed")
        text, reason = self.texts.pop(0), self.reasons.pop(0)
        images = [part for turn in turns for part in turn.parts if isinstance(part, Image)]
        value = json.loads(text) if options.schema is not None and reason == "stop" else None
        answer = Answer(
            text,
            reason,
            Usage(10, 4, 0, 3, 3),
            Timings(0, 0, 0, 0, 0, 0, 0, 0),
            value=value,
            marks=QWEN3_VL.find_marks(text, images[0].size, images[0].to_original) if images else (),
        )
        yield Chunk(text, answer)


def image(width: int = 96, height: int = 96) -> Image:
    return open_image(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def run(vlm: FakeVLM, request: TaskRequest, options: Options | None = None) -> TaskResult:
    return run_task(vlm, image(), request, options)  # type: ignore[arg-type]


def counts(bottles: int, cans: int, total: int | None = None) -> str:
    return json.dumps({"total": bottles + cans if total is None else total, "items": {"bottle": bottles, "can": cans}})


def test_each_number_is_decided_by_its_own_majority() -> None:
    """The total is the sum of the winners."""
    vlm = FakeVLM(counts(6, 2), counts(6, 3), counts(7, 2), counts(6, 2), counts(5, 2))
    result = run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, votes=5))
    assert result.value == {"total": 8, "items": {"bottle": 6, "can": 2}}
    assert result.vote_counts[0]["items.bottle"] == {"6": 3, "7": 1, "5": 1}
    assert result.vote_counts[0]["items.can"] == {"2": 4, "3": 1}
    assert len(result.answers) == 5
    assert json.loads(result.text) == result.value


def test_votes_are_sampled_with_different_seeds() -> None:
    vlm = FakeVLM(*[counts(1, 1)] * 3)
    run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, votes=3), Options(seed=7))
    assert {options.seed for _, options in vlm.requests} == {7, 8, 9}
    assert all(options.temperature == 0.7 for _, options in vlm.requests)
    with pytest.raises(OptionError, match="all votes are the same"):
        run(FakeVLM(), TaskRequest(task=COUNT, arguments=BOTTLES, votes=3), Options(temperature=0))
    sampled = FakeVLM(*[counts(1, 1)] * 2)
    run(sampled, TaskRequest(task=COUNT, arguments=BOTTLES, votes=2), Options(temperature=1.1))
    assert all(options.temperature == 1.1 for _, options in sampled.requests)


def test_notes_are_passed_on_before_the_model_runs() -> None:
    """Each vote passes on its own; the caller prints them once."""

    class Noting(FakeVLM):
        def chat(self, turns: Sequence[Turn], options: Options, *_: object) -> Iterator[Chunk]:
            yield Chunk("", notes=("smaller",))
            assert seen
            yield from super().chat(turns, options)

    seen: list[Sequence[str]] = []
    request = TaskRequest(task=COUNT, arguments=BOTTLES, votes=2)
    run_task(Noting(*[counts(1, 1)] * 2), image(), request, on_notes=seen.append)  # type: ignore[arg-type]
    assert seen.count(("smaller",)) == 2


def test_a_tie_of_numbers_goes_to_the_median() -> None:
    """Guards against an outlier that wins because it came first."""
    vlm = FakeVLM(counts(90, 0), counts(5, 0), counts(6, 0))
    value = run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, votes=3)).value
    assert isinstance(value, dict)
    assert value["items"]["bottle"] == 6


def test_free_text_is_voted_as_a_whole() -> None:
    result = run(FakeVLM("6", "7", "6\n"), TaskRequest("How many?", votes=3))
    assert result.text.strip() == "6"
    assert result.vote_counts[0][""] == {"6": 2, "7": 1}


def test_counts_of_tiles_are_added() -> None:
    vlm = FakeVLM(counts(6, 0), counts(0, 9), counts(1, 2))
    result = run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, tiles=parse_tiles("1x3")))
    assert result.value == {"total": 18, "items": {"bottle": 7, "can": 11}}
    tiles = [part for turns, _ in vlm.requests for turn in turns for part in turn.parts if isinstance(part, Image)]
    assert [tile.size for tile in tiles] == [(96, 32)] * 3
    assert len({tile.sha256 for tile in tiles}) == 3


def test_boxes_of_tiles_are_converted_to_the_whole_image() -> None:
    box = '[{"bbox_2d": [0, 0, 500, 1000], "label": "can"}]'
    request = TaskRequest(task=find_task("locate"), arguments=TaskArguments(items=("can",)), tiles=parse_tiles("2x1"))
    result = run(FakeVLM("[]", box), request)
    assert result.value == [{"bbox_2d": [500, 0, 750, 1000], "label": "can"}]
    assert [mark.box for mark in result.marks] == [(48, 0, 72, 96)]


def test_texts_of_tiles_are_numbered() -> None:
    result = run(FakeVLM("a", "b"), TaskRequest(task=find_task("ocr"), tiles=parse_tiles("1x2")))
    assert result.text == "[1/2] a\n[2/2] b"


def test_steps_reason_without_a_schema_then_answer_with_it() -> None:
    """Both requests are one conversation with one image."""
    vlm = FakeVLM("Row 1: 6 bottles.", counts(6, 0))
    result = run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, steps=True))
    assert result.reasoning == ("Row 1: 6 bottles.",)
    assert result.value == {"total": 6, "items": {"bottle": 6, "can": 0}}
    (first, reasoning), (second, answering) = vlm.requests
    assert reasoning.schema is None
    assert answering.schema is not None
    assert [turn.role for turn in second] == ["user", "assistant", "user"]
    assert second[0] == first[0]
    assert not any(isinstance(part, Image) for part in second[2].parts)


def test_a_wrong_total_is_corrected_with_a_note() -> None:
    result = run(FakeVLM(counts(6, 2, total=9)), TaskRequest(task=COUNT, arguments=BOTTLES))
    assert result.value == {"total": 8, "items": {"bottle": 6, "can": 2}}
    assert any("answered a total of 9" in note for note in result.notes)


def test_incomplete_answers_alone_give_an_incomplete_result() -> None:
    result = run(
        FakeVLM(*[counts(1, 1)[:12]] * 2, reason="length"), TaskRequest(task=COUNT, arguments=BOTTLES, votes=2)
    )
    assert result.value is None
    assert result.finish_reason == "length"


def test_votes_keep_the_sampling_of_the_caller() -> None:
    vlm = FakeVLM("6", "6", "6")
    run(vlm, TaskRequest("How many?", votes=3), Options(top_p=0.3, top_k=5))
    assert {(options.temperature, options.top_p, options.top_k) for _, options in vlm.requests} == {(0.7, 0.3, 5)}


def test_an_incomplete_vote_does_not_count() -> None:
    vlm = FakeVLM(counts(1, 1), counts(1, 1), counts(1, 1)[:9])
    vlm.reasons = ["stop", "stop", "length"]
    result = run(vlm, TaskRequest(task=COUNT, arguments=BOTTLES, votes=3))
    assert result.finish_reason == "stop"
    assert result.value == {"total": 2, "items": {"bottle": 1, "can": 1}}
    assert any("1 of 3 answers were cut short" in note for note in result.notes)


def test_a_combination_that_the_schema_forbids_is_not_returned() -> None:
    """Majorities per field can combine to an answer that no vote gave."""
    schema = {"type": "object"}
    vlm = FakeVLM('{"a": "im", "b": 1}', '{"a": "im", "b": 2}', '{"a": "possible", "b": 1}', '{"a": "im", "b": 2}')
    vlm.forbids = '{"a": "im", "b": 1}'
    result = run(vlm, TaskRequest("?", votes=4), Options(schema=schema))
    assert result.value == {"a": "im", "b": 2}


def test_marks_come_from_the_majority_answer() -> None:
    minority = '[{"bbox_2d": [0, 0, 100, 100], "label": "can"}]'
    majority = '[{"bbox_2d": [500, 500, 1000, 1000], "label": "can"}]'
    result = run(
        FakeVLM(minority, majority, majority),
        TaskRequest(task=find_task("locate"), arguments=TaskArguments(items=("can",)), votes=3),
    )
    assert [mark.box for mark in result.marks] == [(48, 48, 96, 96)]


def test_votes_and_tiles_return_the_schema_type() -> None:
    """Votes are counted as JSON; the value is built at the end."""

    @dataclasses.dataclass
    class Stock:
        bottles: int

    vlm = FakeVLM('{"bottles": 3}', '{"bottles": 4}', '{"bottles": 4}')
    assert run(vlm, TaskRequest("?", votes=3), Options(schema=Stock)).value == Stock(4)
    tiled = run(
        FakeVLM('{"bottles": 3}', '{"bottles": 4}'), TaskRequest("?", tiles=parse_tiles("1x2")), Options(schema=Stock)
    )
    assert tiled.value == [{"bottles": 3}, {"bottles": 4}]


def test_a_user_schema_disables_the_task_merge_rule() -> None:
    """Each tile's answer is listed."""
    request = TaskRequest(task=find_task("fields"), arguments=TaskArguments(fields=("x",)), tiles=parse_tiles("1x2"))
    assert run(FakeVLM("[1]", "[2]"), request, Options(schema={"type": "array"})).value == [[1], [2]]


def test_a_bad_schema_is_refused_before_the_reasoning() -> None:
    vlm = FakeVLM("thoughts", "{}")
    vlm.refuses = True
    with pytest.raises(OptionError, match="no such schema"):
        run(vlm, TaskRequest("?", steps=True), Options(schema={}))
    assert not vlm.requests


def test_too_few_images_are_refused() -> None:
    vlm = FakeVLM()
    with pytest.raises(OptionError, match="at least 2 images"):
        run(vlm, TaskRequest(task=find_task("compare")))
    assert not vlm.requests


def test_a_failed_vote_stops_the_votes_that_have_not_started() -> None:
    vlm = FakeVLM(*["1"] * 16)
    vlm.fails_at = 2
    with pytest.raises(EngineClosed):
        run(vlm, TaskRequest("?", votes=16))
    time.sleep(0.2)
    assert len(vlm.requests) <= 4
