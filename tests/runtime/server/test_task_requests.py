"""Tasks, votes, tiles and steps through the service, with the embedded model over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error
from tests.runtime.server.http_client import (
    QUESTION,
    chat_request,
    image,
    is_idle,
    metric,
    new_image,
    post,
    send_request,
    wait_until,
)
from tests.runtime.server.running_server import ALICE, Server, serving
from tests.runtime.server.test_chat_extensions import shelf, streamed

pytestmark = pytest.mark.slow

BOTTLES = {"task": "count", "items": ["bottle", "can"]}


def task_request(*parts: str | Mapping[str, Any], vlrun: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A request with the task's own temperature."""
    request = chat_request(*(parts or (image(),)), vlrun=vlrun, **more)
    if "temperature" not in more:
        del request["temperature"]
    return request


def choice(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    reply = post(server, request)
    assert reply.status == 200, reply.body
    (found,) = reply.json["choices"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("arguments", "asked", "more"),
    [
        (["--task", "count", "--items", "bottle,can"], BOTTLES, {}),
        (
            ["--task", "locate", "--items", "bottle", "--region", "0,0,1000,667/1000", "--tiles", "1x2"],
            {"task": "locate", "items": ["bottle"], "tiles": "1x2"},
            {},
        ),
        (
            ["--task", "count", "--items", "bottle", "--votes", "3", "--steps", "--seed", "5", "--language", "zh"],
            {"task": "count", "items": ["bottle"], "votes": 3, "steps": True, "language": "zh"},
            {"seed": 5},
        ),
    ],
    ids=["single", "tiles of a region", "votes with steps"],
)
def test_the_service_answers_as_the_command(
    server: Server, arguments: list[str], asked: dict[str, Any], more: dict[str, Any]
) -> None:
    """One implementation: `vlrun ask --json` and the service give the same answer, value, marks, votes and notes."""
    command = [sys.executable, "-m", "vlrun.cli", "ask", str(EXAMPLES / "shelf.png"), *arguments, "--json"]
    printed = json.loads(subprocess.run([*command, "--kv-disk", "0"], stdout=subprocess.PIPE, check=True).stdout)
    part = shelf(region="0,0,1000,667/1000") if "tiles" in asked else image()
    found = choice(server, task_request(part, vlrun=asked, **more))
    sent = found["vlrun"]
    assert (found["message"]["content"], found["finish_reason"]) == (printed["answer"], printed["finish_reason"])
    for name in ("value", "votes", "reasoning", "notes"):
        assert sent.get(name) == printed.get(name), name
    marks = [{"box": None, "point": None, **mark} for mark in sent.get("marks", [])]
    for mark in marks:
        assert json.loads(printed["answer"][mark.pop("start") : mark.pop("end")])["label"] == mark["label"]
    assert marks == printed.get("marks", [])


def test_a_stream_of_votes_reports_each_answer(server: Server) -> None:
    """The text comes at once, when all have voted; a stream ends with what the whole answer has."""
    request = task_request(new_image(), QUESTION, vlrun={"votes": 3}, seed=1)
    request["stream_options"] = {"include_progress": True, "include_usage": True}
    text, extra, last = streamed(server, request)
    progress = [one["progress"] for one in extra if "progress" in one]
    assert [(one["done"], one["total"]) for one in progress if one["phase"] == "votes"] == [(1, 3), (2, 3), (3, 3)]
    assert progress[0]["phase"] == "vision"
    assert (last["vlrun"]["votes"], last["finish_reason"]) == ([{"": last["vlrun"]["votes"][0][""]}], "stop")
    assert sum(last["vlrun"]["votes"][0][""].values()) == 3
    assert text.strip() in last["vlrun"]["votes"][0][""]


def test_a_single_answer_of_a_task_is_streamed(server: Server) -> None:
    """A total may be corrected, so that its text comes at once; other texts come as they are generated."""
    whole = choice(server, task_request(vlrun={"task": "describe"}, temperature=0, max_tokens=40))
    text, _, last = streamed(server, task_request(vlrun={"task": "describe"}, temperature=0, max_tokens=40))
    assert text == whole["message"]["content"]
    assert last.get("vlrun") == whole.get("vlrun")
    counted, _, last = streamed(server, task_request(vlrun=BOTTLES))
    assert json.loads(counted) == last["vlrun"]["value"] == {"total": 7, "items": {"bottle": 6, "can": 1}}


def test_a_task_has_a_heat_map_and_a_system_prompt(server: Server) -> None:
    request = task_request(vlrun={"task": "ocr", "heatmap": True}, max_tokens=8)
    request["messages"] = [{"role": "system", "content": "Be brief."}, *request["messages"]]
    found = choice(server, request)
    assert "".join(found["vlrun"]["heatmap"]["tokens"]) == found["message"]["content"]


def test_the_usage_is_that_of_all_answers(server: Server) -> None:
    usage = post(server, task_request(image(), QUESTION, vlrun={"votes": 3}, seed=1)).json["usage"]
    single = post(server, chat_request(image(), QUESTION)).json["usage"]
    assert usage["prompt_tokens"] == 3 * single["prompt_tokens"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 192
    assert usage["completion_tokens"] >= 3


def long_task(**more: Any) -> dict[str, Any]:
    """Votes that take seconds."""
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
    schema = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": numbers}}
    return task_request(
        new_image(), "Numbers", vlrun={"votes": 8}, temperature=2, max_tokens=3900, response_format=schema, **more
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnected_client_stops_all_votes(server: Server, stream: bool) -> None:
    """Eight votes, four of which run; no further step is computed, and all slots are free."""
    connection = send_request(server, long_task(stream=stream))
    wait_until(lambda: metric(server, "vlrun_engine_running") == 4)
    if stream:
        assert connection.getresponse().read(20)
    connection.disconnect()
    wait_until(lambda: is_idle(server))
    wait_until(lambda: metric(server, "vlrun_answers_running") == 0)
    assert choice(server, task_request(vlrun=BOTTLES))["vlrun"]["value"]["total"] == 7


def test_the_deadline_and_parallel_hold_for_votes() -> None:
    """Votes are no way around the limits: two answers at once, and 504 after two seconds."""
    with serving("--parallel", "2", "--deadline", "3") as small:
        running: list[float] = []
        connection = send_request(small, long_task())
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                running.append(metric(small, "vlrun_engine_running"))

        watching = threading.Thread(target=watch)
        watching.start()
        reply = connection.getresponse()
        done.set()
        watching.join()
        assert reply.status == 504
        assert max(running) == 2
        wait_until(lambda: is_idle(small))


def test_eight_clients_with_votes_are_all_answered(server: Server) -> None:
    """They take turns: 24 votes with four slots."""
    answers: list[dict[str, Any]] = []

    def ask(number: int) -> None:
        answers.append(choice(server, task_request(vlrun={**BOTTLES, "votes": 3}, seed=number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 8
    assert all(sum(answer["vlrun"]["votes"][0]["total"].values()) == 3 for answer in answers)


def test_a_task_of_the_service_is_answered(server: Server, configured_server: Server) -> None:
    """`vlrun serve --tasks` adds tasks, which only this service knows."""
    request = task_request(vlrun={"task": "shelf"}, temperature=0)
    reply = post(configured_server, request, headers={"Authorization": f"Bearer {ALICE}"})
    assert reply.text == post(server, chat_request(image(), "What is there?")).text
    assert "there is no task 'shelf'" in assert_error(post(server, request), 400, "invalid_value", "vlrun.task")


def test_stored_images_have_regions_and_tasks(server: Server) -> None:
    """The page asks about a part of a picture that it sent before, without sending it again."""
    stored = post(server, {"image": image()["image_url"]["url"]}, "/v1/images").json["url"]
    part = {"type": "image_url", "image_url": {"url": stored, "region": "0,427,640,213"}}
    expected = choice(
        server, task_request(shelf(region="0,427,640,213"), vlrun={"task": "locate", "items": ["bottle"]})
    )
    assert choice(server, task_request(part, vlrun={"task": "locate", "items": ["bottle"]})) == expected
    gone = {"type": "image_url", "image_url": {"url": f"vlrun:img_{64 * '0'}"}}
    assert_error(
        post(server, task_request(gone, vlrun={"votes": 2})),
        404,
        "image_not_found",
        "messages[0].content[0].image_url.url",
    )


def test_tiles_too_small_are_refused(server: Server) -> None:
    """Known only once the image is decoded."""
    reply = post(server, task_request(shelf(region="0,0,40,40"), "?", vlrun={"tiles": "2x2"}))
    assert "would be 20 x 20" in assert_error(reply, 400, "invalid_value", "vlrun.tiles")


def test_other_endpoints_refuse_the_field_by_name(server: Server) -> None:
    for path, body in (
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/tokenize", {"prompt": "hi"}),
    ):
        reply = post(server, {**body, "vlrun": {"votes": 2}}, path)
        assert_error(reply, 400, "unsupported_parameter", "vlrun")
