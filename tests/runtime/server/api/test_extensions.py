"""The field ``vlrun`` of a choice: values, marks, heat maps."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.runtime.server.api.test_answers import answer, chat_adapter, chat_chunks, only_choice
from vlrun.heatmap.heat_map import Heat
from vlrun.server.api.extensions import MAX_HEAT_BYTES, heat_map
from vlrun.types.mark import Mark

TEXT = '[{"bbox_2d": [1, 2, 3, 4], "label": "a"},\n {"point_2d": [5, 6]}]'
CORNERS = ((0.0, 0.0), (28.0, 1.26), (-1.0, 28.0))
MARKS = (Mark("a", (1.5, 2.0, 3.0, 4.0), None, (1, 41)), Mark("", None, (5.0, 6.0)))


def heat(tokens: int, *shapes: tuple[int, int]) -> Heat:
    generator = np.random.default_rng(0)
    maps = tuple(generator.random((tokens, *shape), np.float32) for shape in shapes)
    return Heat(maps, tuple(f"{token} " for token in range(tokens)), (CORNERS,) * len(shapes))


def decoded(encoded: dict[str, Any], image: int = 0) -> np.ndarray[Any, Any]:
    part = encoded["images"][image]
    levels = np.frombuffer(base64.b64decode(part["values"]), np.uint8)
    return levels.reshape(len(encoded["tokens"]), part["rows"], part["columns"]) * (part["max"] / 255)


def sent(value: Heat) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(heat_map(value, "".join(value.token_texts))))
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_a_choice_has_value_and_marks(stream: bool) -> None:
    """The box has its characters in the content, if they are known."""
    whole = answer(TEXT, value=[{}], marks=MARKS)
    choice = chat_chunks(chat_adapter(), whole)[-1]["choices"][0] if stream else only_choice(chat_adapter(), whole)
    assert choice["vlrun"] == {
        "value": json.loads(TEXT),
        "marks": [
            {"label": "a", "box": [1.5, 2.0, 3.0, 4.0], "start": 1, "end": 41},
            {"label": "", "point": [5.0, 6.0]},
        ],
    }


@pytest.mark.parametrize("stream", [False, True])
def test_characters_of_a_text_without_its_tool_calls_are_unknown(stream: bool) -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": {"bbox_2d": [1, 2, 3, 4]}}\n</tool_call>'
    whole, adapter = answer(text, marks=MARKS[:1]), chat_adapter(tools=True)
    choice = chat_chunks(adapter, whole)[-1]["choices"][0] if stream else only_choice(adapter, whole)
    assert choice["vlrun"]["marks"] == [{"label": "a", "box": [1.5, 2.0, 3.0, 4.0]}]


def test_numbers_of_a_value_stay_as_they_are() -> None:
    """Numbers beyond 64 bits cannot be encoded again, and 1e999 would be null."""
    text = '{"a": 123456789012345678901234567890,\n"b": 1e999, "c": 1.10}'
    adapter = chat_adapter()
    body = adapter.whole([answer(text, value={})])
    assert b'"value":{"a":123456789012345678901234567890,"b":1e999,"c":1.10}' in body


def test_a_heat_map_has_a_map_for_each_token_and_image() -> None:
    value = heat(3, (4, 5), (2, 2))
    found = sent(value)
    assert found["tokens"] == ["0 ", "1 ", "2 "]
    for image, maps in enumerate(value.maps):
        np.testing.assert_allclose(decoded(found, image), maps, atol=float(maps.max()) / 255)
        assert found["images"][image]["max"] == pytest.approx(float(maps.max()))
        assert found["images"][image]["corners"] == [[0, 0], [28, 1.3], [-1, 28]]


@pytest.mark.parametrize(("tokens", "shapes"), [(2000, [(40, 64)]), (1000, [(40, 64), (64, 40)]), (30, [(300, 200)])])
def test_a_long_answer_has_fewer_maps(tokens: int, shapes: list[tuple[int, int]]) -> None:
    """The size of an answer is bounded; each map is the mean of neighbouring tokens, all of which are named."""
    value = heat(tokens, *shapes)
    found = sent(value)
    size = sum(len(base64.b64decode(image["values"])) for image in found["images"])
    assert MAX_HEAT_BYTES / 3 < size <= MAX_HEAT_BYTES
    assert "".join(found["tokens"]) == "".join(value.token_texts)
    group = found["tokens"][0].count(" ")
    np.testing.assert_allclose(decoded(found)[0], value.maps[0][:group].mean(0), atol=1 / 200)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a bc d", ["", "a ", "bc", " d"]),
        ("a b", ["", "a ", "b", ""]),  # a stop string
        ("b", ["", "", "b", ""]),
        ("\n\na bc d", ["\n\n", "a ", "bc", " d"]),
        ("corrected", ["\n\n", "a ", "bc", " d"]),
        ("", ["", "", "", ""]),
    ],
)
def test_tokens_are_those_of_the_text(text: str, tokens: list[str]) -> None:
    """Words light up by their place in the content, which has no lines after the reasoning and no stop string."""
    value = Heat((np.ones((4, 2, 2), np.float32),), ("\n\n", "a ", "bc", " d"), (CORNERS,))
    assert heat_map(value, text)["tokens"] == tokens


def test_a_heat_map_without_heat_is_zero() -> None:
    assert not decoded(sent(Heat((np.zeros((1, 2, 2), np.float32),), ("a",), (CORNERS,)))).any()


def test_an_empty_answer_has_no_heat_map() -> None:
    none = Heat((np.zeros((0, 2, 2), np.float32),), (), (CORNERS,))
    assert "vlrun" not in only_choice(chat_adapter(), answer("", heat=none))
