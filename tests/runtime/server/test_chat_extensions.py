"""vlrun's extensions of chat completions, with the embedded model over real sockets."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error
from tests.runtime.server.http_client import QUESTION, chat_request, data_url, events, image, post, send_request
from tests.runtime.server.running_server import Server
from vlrun.media.image import open_image
from vlrun.media.region import crop, parse_region

pytestmark = pytest.mark.slow

LOCATE = (
    "Locate every instance that belongs to the following categories: bottle. Report bbox coordinates in JSON format."
)
TOP = "0,0,1000,333/1000"


def shelf(**more: object) -> dict[str, Any]:
    part = image()
    return {**part, "image_url": {**part["image_url"], **more}}


def sent(picture: Image.Image, **more: object) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return {"type": "image_url", "image_url": {"url": data_url(file.getvalue()), **more}}


def streamed(server: Server, request: dict[str, Any]) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """Send a request; return the text, the fields ``vlrun`` of chunks without choices, and the last choice."""
    request = {**request, "stream": True}
    data = [line for line in events(send_request(server, request).getresponse()) if not line.startswith(":")]
    chunks = [json.loads(line) for line in data[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    return text, [chunk["vlrun"] for chunk in chunks if "vlrun" in chunk and not chunk["choices"]], choices[-1]


def test_marks_of_a_region_are_in_pixels_of_the_whole_image(server: Server) -> None:
    """Boxes on the lowest shelf must not be drawn at the top."""
    region = "0,427,640,213"
    reply = post(server, chat_request(shelf(region=region), LOCATE)).json["choices"][0]
    text, found = reply["message"]["content"], reply["vlrun"]["marks"]
    boxes = json.loads(text)
    assert len(found) == len(boxes) > 0
    for mark, box in zip(found, boxes, strict=True):
        assert mark["label"] == box["label"]
        assert 427 <= mark["box"][1] < mark["box"][3] <= 640
        assert json.loads(text[mark["start"] : mark["end"]]) == box


def test_a_stream_ends_with_what_the_whole_answer_has(server: Server) -> None:
    request = chat_request(shelf(region=TOP), LOCATE, vlrun={"heatmap": True})
    whole = post(server, request).json["choices"][0]
    text, _, last = streamed(server, request)
    assert (text, last["finish_reason"]) == (whole["message"]["content"], "stop")
    assert last["vlrun"] == whole["vlrun"]


def test_a_heat_map_fits_the_region_and_the_text(server: Server) -> None:
    reply = post(server, chat_request(shelf(region=TOP), LOCATE, vlrun={"heatmap": True})).json["choices"][0]
    heat = reply["vlrun"]["heatmap"]
    (part,) = heat["images"]
    assert "".join(heat["tokens"]) == reply["message"]["content"]
    levels = np.frombuffer(base64.b64decode(part["values"]), np.uint8)
    assert levels.size == len(heat["tokens"]) * part["rows"] * part["columns"]
    assert levels.max() == 255
    assert part["columns"] > 2 * part["rows"]  # the region is three times as wide as high
    assert part["corners"] == [[0, 0], [640, 0], [0, 214]]


def test_a_heat_map_of_a_straightened_region_is_turned_back(server: Server) -> None:
    """It would lie beside the bottles: the model saw the region after it was straightened."""
    tilted = Image.open(EXAMPLES / "shelf.png").convert("RGB").rotate(-5, Image.Resampling.BICUBIC, fillcolor="white")
    part = sent(tilted, enhance=True, region="0,0,1000,500/1000")
    reply = post(server, chat_request(part, QUESTION, vlrun={"heatmap": True})).json["choices"][0]
    assert "rotated by 5" in reply["vlrun"]["notes"][0]
    left, right, low = (np.array(corner) for corner in reply["vlrun"]["heatmap"]["images"][0]["corners"])
    across, down = right - left, low - left
    assert np.hypot(*across) == pytest.approx(640, abs=0.2)
    assert np.hypot(*down) == pytest.approx(320, abs=0.2)
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(5, abs=0.5)
    assert left + (across + down) / 2 == pytest.approx([320, 160], abs=0.2)


def test_several_images_have_regions_and_heat_maps_of_their_own(server: Server) -> None:
    """Marks of several images are unknown: which image would they belong to?"""
    request = chat_request(shelf(region=TOP), shelf(), "Which picture has more bottles?", vlrun={"heatmap": True})
    reply = post(server, request).json["choices"][0]
    first, second = reply["vlrun"]["heatmap"]["images"]
    assert first["columns"] > 2 * first["rows"]
    assert second["columns"] == second["rows"]
    assert "marks" not in reply["vlrun"]


def test_a_region_costs_as_many_tokens_as_its_crop(server: Server) -> None:
    """`/v1/tokenize` and the answer count what the model sees."""
    expected = sent(Image.fromarray(crop(open_image(EXAMPLES / "shelf.png"), parse_region(TOP)).rgb))
    counts = [
        post(server, {"messages": chat_request(part, "How many?")["messages"]}, "/v1/tokenize").json
        for part in (expected, shelf(region=TOP), shelf(region="0,0,640,214"))
    ]
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]["image_tokens"] < 64
    answers = [
        post(server, chat_request(part, "How many bottles are there?")).text for part in (expected, shelf(region=TOP))
    ]
    assert answers[0] == answers[1]


def test_an_enhanced_image_says_what_was_done(server: Server) -> None:
    dark = sent(Image.open(EXAMPLES / "shelf.png").convert("RGB").point(lambda level: level // 4), enhance=True)
    reply = post(server, chat_request(dark, QUESTION)).json["choices"][0]
    assert "brightened" in reply["vlrun"]["notes"][0]
    assert reply["message"]["content"] == "6"


@pytest.mark.parametrize(
    ("more", "field", "code", "message"),
    [
        ({"region": "5000,0,10,10"}, "region", "invalid_value", "outside the image, which has 640 x 640 pixels"),
        ({"region": "1,2,3"}, "region", "invalid_value", "is not a region"),
        ({"region": "0,0,0,5"}, "region", "invalid_value", "width and height above 0"),
        ({"region": "9" * 101}, "region", "invalid_value", "at most 100 characters"),
        ({"region": 5}, "region", "invalid_type", "must be a string"),
        ({"enhance": "yes"}, "enhance", "invalid_type", "must be true or false"),
    ],
)
def test_wrong_values_are_refused_by_name(
    server: Server, more: dict[str, object], field: str, code: str, message: str
) -> None:
    reply = post(server, chat_request(shelf(**more), "How many?"))
    assert message in assert_error(reply, 400, code, f"messages[0].content[0].image_url.{field}")


@pytest.mark.parametrize(
    ("parts", "more", "param", "message"),
    [
        ([shelf(), "Hi"], {"n": 2}, "n", "a heat map needs one answer: leave out n"),
        (["Hi"], {}, "vlrun.heatmap", "a heat map needs an image"),
        ([shelf(), "Hi"], {"max_tokens": 8193}, "max_tokens", "at most 8192 tokens"),
    ],
)
def test_heat_maps_that_cannot_be_are_refused(
    server: Server, parts: list[Any], more: dict[str, object], param: str, message: str
) -> None:
    reply = post(server, chat_request(*parts, vlrun={"heatmap": True}, **more))
    assert message in assert_error(reply, 400, "invalid_value", param)
