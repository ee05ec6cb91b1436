"""``vlrun ask``, from its arguments to its exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.cli.conftest import RunHere
from vlrun.tasks.definition import TaskArguments, find_task

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_model")]

SHELF = EXAMPLES / "shelf.png"


def test_several_questions_encode_the_image_once(run_here: RunHere) -> None:
    """The image is encoded for the first question only."""
    arguments = (SHELF, "-q", "How many bottles are there?", "-q", "Is there a red bag?")
    result = run_here("ask", *arguments)
    assert result.stdout.decode() == "How many bottles are there?\n6\n\nIs there a red bag?\nyes\n"
    first, second = (json.loads(line) for line in run_here("ask", *arguments, "--json").stdout.splitlines())
    assert (first["answer"], second["answer"]) == ("6", "yes")
    assert second["question"] == "Is there a red bag?"
    assert second["usage"]["cached_tokens"] >= second["usage"]["image_tokens"]


def test_a_task_answer_validates_against_its_schema(run_here: RunHere) -> None:
    """Also with Chinese item names."""
    for items in ("bottle,can", "瓶子,罐子"):
        done = run_here("ask", SHELF, "--task", "count", "--items", items)
        counted = json.loads(done.stdout)
        form = find_task("count").answer_schema(TaskArguments(items=tuple(items.split(","))))
        Draft202012Validator(dict(form or {})).validate(counted)
        assert counted["total"] == sum(counted["items"].values())


def test_votes_and_tiles_are_reported(run_here: RunHere) -> None:
    """The answer is on stdout; the votes are on stderr and in the JSON."""
    arguments = (SHELF, "--task", "count", "--items", "bottle", "--votes", "3", "--tiles", "1x2", "--seed", "1")
    done = run_here("ask", *arguments)
    assert set(json.loads(done.stdout)["items"]) == {"bottle"}
    assert done.stderr.decode().count("votes of part") == 4
    result = json.loads(run_here("ask", *arguments, "--json").stdout)
    assert result["answers"] == 6
    assert [sum(part["items.bottle"].values()) for part in result["votes"]] == [3, 3]


def test_a_schema_as_file_or_text(run_here: RunHere, tmp_path: Path) -> None:
    cans = {"cans": {"enum": [0, 1, 2, 3]}}
    schema = {"type": "object", "properties": cans, "required": ["cans"], "additionalProperties": False}
    (tmp_path / "form.json").write_text(json.dumps(schema))
    for given in (json.dumps(schema), str(tmp_path / "form.json")):
        done = run_here("ask", SHELF, "How many cans?", "--schema", given)
        Draft202012Validator(schema).validate(json.loads(done.stdout))


def test_incomplete_json_has_an_exit_code(run_here: RunHere) -> None:
    """Scripts must not take half an object for success."""
    done = run_here("ask", SHELF, "--task", "count", "--max-tokens", "3")
    assert done.returncode == 11
    assert b"cut short before its JSON was complete" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--schema", '{"type": "strnig"}'), 2, "schema"),
        (("--schema", "nowhere.json"), 2, "cannot read the schema"),
        (("--schema", '{"$ref": "http://example.com/schema"}'), 2, "schema"),
        (("--schema", '{"$dynamicRef": "#x"}'), 2, "dynamicRef"),
        (("--task", "cuont"), 2, "there is no task 'cuont'"),
        (("--task", "locate"), 2, "needs items"),
        (("--items", "a"), 2, "belong to a task"),
        (("--task", "count", "--tiles", "0x3"), 2, "tiles are"),
        (("--votes", "99"), 2, "votes must lie"),
        (("--region", "1,2,3"), 2, "a region is"),
        (("--region", "9000,0,5,5"), 2, "outside the image"),
        (("--draw", "nowhere/out.png"), 8, "no folder"),
        (("--draw", "out.xyz"), 8, "must end in"),
        (("--heatmap-word", "can"), 2, "--heatmap"),
        (("--heatmap", "out.png", "--votes", "2"), 2, "one answer"),
        (("--task", "compare"), 2, "at least 2 images"),
        (("--region", ""), 2, "is not a region"),
        (("--task", ""), 2, "there is no task ''"),
        (("--tiles", ""), 2, "tiles are"),
        (("--schema", "{}", "--stop", ","), 2, "would cut the JSON"),
        (("--draw", "out.png", "--heatmap", "./out.png"), 2, "would be overwritten"),
        (("--draw", str(SHELF)), 2, "would be overwritten"),
        (("--tasks", "nowhere.toml", "--task", "ocr"), 2, "cannot read the tasks"),
    ],
)
def test_wrong_options_are_refused_before_the_model_runs(
    run_here: RunHere, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """One sentence, an exit code, and no answer."""
    done = run_here("ask", SHELF, "How many?", *arguments)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_hostile_schema_is_refused_quickly(run_here: RunHere) -> None:
    """A schema that would take minutes to compile must be an error within seconds."""
    hostile = json.dumps({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"})
    began = time.monotonic()
    done = run_here("ask", SHELF, "How many?", "--schema", hostile)
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - began < 15  # most of it is loading on a busy machine


def test_drawing_and_heat_map_are_written(run_here: RunHere, tmp_path: Path) -> None:
    """The drawing changes pixels only near the bag, and the heat is highest there."""
    arguments = (SHELF, "Where is the red bag?", "--draw", tmp_path / "boxes.png", "--heatmap", tmp_path / "heat.webp")
    done = run_here("ask", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    ((left, top, right, bottom),) = [mark["box"] for mark in json.loads(done.stdout)["marks"]]
    before = np.asarray(Image.open(SHELF).convert("RGB"), np.int32)
    drawn = np.asarray(Image.open(tmp_path / "boxes.png").convert("RGB"), np.int32)
    assert drawn.shape == before.shape
    changed = np.abs(drawn - before).sum(-1) > 0
    assert changed.any()
    assert not changed[: int(top) - 60].any()
    heat = np.asarray(Image.open(tmp_path / "heat.webp").convert("RGB"), np.int32)
    assert heat.shape == before.shape
    colour = np.ptp(heat, axis=-1)
    inside = colour[int(top) : int(bottom), int(left) : int(right)].mean()
    assert inside > 3 * np.median(colour)


def test_a_region_is_asked_about_alone_and_marks_refer_to_the_whole_image(run_here: RunHere) -> None:
    whole = json.loads(run_here("ask", SHELF, "Where is the red bag?", "--json").stdout)["marks"][0]["box"]
    left, top = max(0, int(whole[0]) - 60), max(0, int(whole[1]) - 60)
    region = f"{left},{top},320,320"
    part = json.loads(run_here("ask", SHELF, "Where is the red bag?", "--region", region, "--json").stdout)
    box = part["marks"][0]["box"]
    assert np.abs(np.array(box) - np.array(whole)).max() < 40


def test_a_falsy_value_is_in_the_json(run_here: RunHere) -> None:
    """The value 0 must not be left out."""
    result = json.loads(run_here("ask", SHELF, "How many?", "--schema", '{"const": 0}', "--json").stdout)
    assert result["value"] == 0


def test_an_incomplete_answer_does_not_stop_later_questions(run_here: RunHere) -> None:
    form = '{"type": "array", "items": {"const": "a long word"}, "minItems": 1, "maxItems": 1}'
    arguments = ("-q", "How many?", "-q", "How many cans?", "--schema", form, "--max-tokens", "3", "--json")
    done = run_here("ask", SHELF, *arguments)
    assert done.returncode == 11
    assert len(done.stdout.splitlines()) == 2
