"""Parsing boxes and points from answers: fenced, in prose, badly quoted, nested, truncated, malformed."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.media.transform import ImageTransform
from vlrun.models.qwen3_vl.grounding import find_marks
from vlrun.types.mark import Mark

SIZE = (2000, 1000)
"""Not square, so that swapped axes change the result."""
FRAME = ImageTransform(SIZE)


def marks(text: str) -> tuple[Mark, ...]:
    return find_marks(text, SIZE, FRAME)


def box_mark(label: str, *box: float) -> Mark:
    return Mark(label, (box[0] * 2, box[1], box[2] * 2, box[3]), None)


CAN = box_mark("red can", 10, 20, 30, 40)
REFERENCE, BOX = "<|object_ref_start|>cat<|object_ref_end|>", "<|box_start|>(1,2),(3,4)<|box_end|>"
CAN_TEXT = '{"bbox_2d": [10, 20, 30, 40], "label": "red can"}'


@pytest.mark.parametrize(
    "text",
    [
        CAN_TEXT,
        f"[{CAN_TEXT}]",
        f"```json\n[\n\t{CAN_TEXT}\n]\n```",
        f"It's there, [see] {{the}} image's left: {CAN_TEXT}. Don't you see it?",
        str([json.loads(CAN_TEXT)]),
        str({"bbox_2d": (10, 20, 30, 40), "label": "red can"}),
        '{"label": "red can", "bbox_2d": [10.0, 2e1, 30., +40]}',
        '{"label" : "red can" , "score": 0.9, "ok": true, "no": null, "bbox_2d":\n[\n10,\n20,\n30,\n40\n]\n}',
        '{bbox_2d: [10, 20, 30, 40], label: "red can"}',
        '{"bbox_2d": [30, 40, 10, 20], "label": "red can"}',
        '{"bbox_3d": [1, 2, 3, 4, 5, 6, 7, 8, 9], "bbox_2d": [10, 20, 30, 40], "label": "red can"}',
        '{"bbox_2d": [10, 20, 30, 40], "sub_label": "closed", "label": "red can"}',
        '{"bbox_2d": [10, 20, 30, 40], "text_content": "red can"}',
        '{"objects": [{"parts": {"bbox_2d": [10, 20, 30, 40], "label": "red can"}}], "tags": ["a]", "{"]}',
        "<|object_ref_start|>red can<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>",
    ],
)
def test_every_notation_of_a_box_is_parsed(text: str) -> None:
    assert marks(text) == (CAN,)


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ('"a \\"big\\" can"', 'a "big" can'),
        ('"a "big" can"', 'a "big" can'),
        ("'\\U0001f600\\xe9\\t'", "😀é"),
        ("'the dog's bowl'", "the dog's bowl"),
        ('"it\'s"', "it's"),
        ('"[1, 2], {x}"', "[1, 2], {x}"),
        ('"{\\"bbox_2d\\": [1, 2, 3, 4]}"', '{"bbox_2d": [1, 2, 3, 4]}'),
        ('"红色罐子"', "红色罐子"),
        ('"\\u7ea2 \\ud83d\\ude00 \\ud83d"', "红 😀"),
        ('"C:\\\\u12"', "C:\\u12"),
        ('"two\\nlines\\u001b[31m"', "two lines [31m"),
        ("3", "3"),
        ("null", ""),
    ],
)
def test_labels_keep_quotes_brackets_and_escapes(written: str, label: str) -> None:
    """Guards against labels that end at their first quote or bracket, and against lone surrogates."""
    after = ', {"bbox_2d": [5, 6, 7, 8], "label": "last"}'
    expected = (box_mark(label, 10, 20, 30, 40), box_mark("last", 5, 6, 7, 8))
    assert marks(f'[{{"bbox_2d": [10, 20, 30, 40], "label": {written}}}{after}]') == expected
    assert marks(f'[{{"label": {written}, "bbox_2d": [10, 20, 30, 40]}}{after}]') == expected


@pytest.mark.parametrize(
    "coordinates",
    [
        '"bbox_2d": [1, 2, 3]',
        '"bbox_2d": [1, 2, 3, 4, 5]',
        '"bbox_2d": [1, 2, 3, null]',
        '"bbox_2d": [1, 2, 3, NaN]',
        '"bbox_2d": [1, 2, 3, 1e999]',
        '"bbox_2d": [1, 2, 3, "x"]',
        '"bbox_2d": [1, 2, 3, 1_000]',
        '"bbox_2d": [[1, 2], [3, 4]]',
        '"bbox_2d": []',
        '"bbox_2d": null',
        '"bbox_3d": [1, 2, 3, 4]',
        '"point_2d": [1]',
    ],
)
def test_invalid_coordinates_are_skipped(coordinates: str) -> None:
    """Guards against one invalid entry that hides the valid ones."""
    assert marks(f'[{CAN_TEXT}, {{{coordinates}, "label": "bad"}}, {CAN_TEXT}]') == (CAN, CAN)


def test_points_values_outside_the_image_and_grounding_tokens_are_parsed() -> None:
    """Older Qwen models write several boxes after one label."""
    assert marks('{"point_2d": [500, 1200], "label": "tip"}') == (Mark("tip", None, (1000.0, 1000.0)),)
    assert marks('{"bbox_2d": [-5, 0, 1001, 1000]}') == (box_mark("", 0, 0, 1000, 1000),)
    text = (
        "A <|object_ref_start|> cat <|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5, 6)<|box_end|>"
    )
    assert marks(text) == (box_mark("cat", 1, 2, 3, 4), Mark("cat", None, (10.0, 6.0)))


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        (f"Here: [{CAN_TEXT}, {CAN_TEXT}].", [CAN_TEXT, CAN_TEXT]),
        ('{"a": [{"b": 1, "bbox_2d": [1, 2, 3, 4]}, 5]}', ['{"b": 1, "bbox_2d": [1, 2, 3, 4]}']),
        ('\U0001f600 {"bbox_2d": [1, 2, 3, 4], "label": "c', ['{"bbox_2d": [1, 2, 3, 4], "label": "c']),
        ('{"bbox_2d": [1, 2, 3, 4]; ' + CAN_TEXT, ['{"bbox_2d": [1, 2, 3, 4]', CAN_TEXT]),
        (f"A {REFERENCE}{BOX}, {BOX}", [f"{REFERENCE}{BOX}", BOX]),
    ],
)
def test_a_mark_knows_its_place_in_the_text(text: str, spans: list[str]) -> None:
    """A page lights up a box together with its words."""
    assert [text[slice(*(mark.span or ()))] for mark in marks(text)] == spans


def test_marks_are_in_pixels_of_the_original() -> None:
    """Crops and rotated images are mapped back."""
    crop = ImageTransform((100, 100)).compose((1, 0, 30, 0, 1, 40))
    assert find_marks(CAN_TEXT, (50, 50), crop)[0].box == (30.5, 41.0, 31.5, 42.0)
    turned = ImageTransform((100, 200)).compose((0, -1, 100, 1, 0, 0))  # the image is 200 wide and 100 high
    assert find_marks('{"bbox_2d": [0, 0, 500, 100]}', (200, 100), turned)[0].box == (90.0, 0.0, 100.0, 100.0)


LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(0, 1000) | st.floats(0, 1000, allow_nan=False).map(lambda value: round(value, 2))
OBJECTS = st.builds(
    lambda label, box, key, turned: dict(
        [("label", label), (key, box[: 4 if key == "bbox_2d" else 2])][:: -1 if turned else 1]
    ),
    LABELS,
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.sampled_from(["bbox_2d", "point_2d"]),
    st.booleans(),
)


def expected_mark(entry: dict[str, object]) -> Mark:
    """Return the expected mark, computed independently of the parser."""
    label = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(entry["label"])).split())
    if (box := entry.get("bbox_2d")) is not None:
        assert isinstance(box, list)
        corners = sorted(box[::2]), sorted(box[1::2])
        return box_mark(label, corners[0][0], corners[1][0], corners[0][1], corners[1][1])
    point = entry["point_2d"]
    assert isinstance(point, list)
    return Mark(label, None, (point[0] * 2.0, float(point[1])))


def is_same(found: Mark, expected: Mark) -> bool:
    """Whether two marks are equal up to rounding."""
    pairs = zip(found.box or found.point or (), expected.box or expected.point or (), strict=True)
    return (found.box is None) == (expected.box is None) and all(abs(a - b) < 1e-6 for a, b in pairs)


@settings(max_examples=40, deadline=None)
@given(st.lists(OBJECTS, max_size=3), st.booleans(), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_marks_of_a_growing_answer_only_grow(
    entries: list[dict[str, object]], ascii_only: bool, indent: int | str | None, python: bool
) -> None:
    """Guards streaming: a mark that was shown never changes, except that the last label grows."""
    text = repr(entries) if python else json.dumps(entries, ensure_ascii=ascii_only, indent=indent)
    expected = [expected_mark(entry) for entry in entries]
    count = 0
    for cut in range(len(text) + 1):
        found = marks(text[:cut])
        assert count <= len(found) <= len(expected)
        count = len(found)
        assert all(is_same(a, b) for a, b in zip(found, expected, strict=False))
        for mark, complete in zip(found[:-1], expected, strict=False):
            assert mark.label == complete.label
        if found:
            assert expected[len(found) - 1].label.startswith(found[-1].label)
    assert count == len(expected)
    assert [mark.label for mark in marks(text)] == [mark.label for mark in expected]


NESTED = st.recursive(
    st.none() | st.booleans() | NUMBERS | LABELS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inside, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(NESTED, max_size=3), OBJECTS, st.lists(NESTED, max_size=3))
def test_marks_are_found_in_nested_json(before: list[object], entry: dict[str, object], after: list[object]) -> None:
    text = json.dumps({"a": before, "b": {"c": [entry], "d": after}}, ensure_ascii=False)
    (found,) = marks(f"Well: {text}")
    assert is_same(found, expected_mark(entry))
    assert found.label == expected_mark(entry).label


PIECES = ["{", "}", "[", "]", "(", ")", '"', "'", "\\", ",", ":", "\n", " ", "1", "a", '"bbox_2d":', "[1,2,3,4]"]
PIECES += ['{"label":"', "<|box_start|>(1,2)", "<|object_ref_start|>", "<|object_ref_end|>", "\\ud83d", "\ud83d", "|"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_malformed_answers_never_raise(pieces: list[str]) -> None:
    """Every label can be encoded as UTF-8, and every span is a part of the text."""
    text = "".join(pieces)
    for mark in marks(text):
        mark.label.encode()
        start, end = mark.span or (0, 0)
        assert 0 <= start < end <= len(text)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["", "{", '{"bbox_2d":[1', '{"label":"', "<|box_start|>(1,2)"])
def test_parsing_takes_linear_time(head: str) -> None:
    """Guards the service against a model that repeats itself for 100 KB."""
    for piece in [*PIECES, '{"a":{', '{"a":[', '{"a":"', "{'a':\"", '{"a":"x" ', '{"bbox_2d":[1']:
        text = head + piece * (100_000 // len(piece)) + "x"
        start = time.process_time()
        marks(text)
        assert time.process_time() - start < 20, piece  # minutes, if it were quadratic
