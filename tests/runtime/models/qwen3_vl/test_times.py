"""Times in answers about videos."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.models.qwen3_vl.times import find_times

CASES = [
    ("The ball turns red at 4.5 seconds.", [(4.5, 4.5)]),
    ("At 3s and again at 7 s.", [(3, 3), (7, 7)]),
    ("<3.0 seconds>", [(3, 3)]),
    ("It rains from 3 to 7.5 seconds", [(3, 7.5)]),
    ("It rains from 3 s to 7.5 s", [(3, 7.5)]),
    ("3-7 s", [(3, 7)]),
    ("between 3 and 5 seconds", [(3, 5)]),
    ("3 s and 5 s", [(3, 3), (5, 5)]),
    ("00:03 - 00:07.5: a car passes", [(3, 7.5)]),
    ("1:02:03", [(3723, 3723)]),
    ("at 01:05", [(65, 65)]),
    ('[{"start": "00:00.00", "end": "00:10.50", "event": "a"}, {"start": 12, "end": 13.5}]', [(0, 10.5), (12, 13.5)]),
    ('{"start_time": 1.5, "end_time": 2}', [(1.5, 2)]),
    ('{"time": 4.0, "label": "ball"}', [(4, 4)]),
    ('{"timestamp": "4.0 seconds"}', [(4, 4)]),
    ("第3秒到第5秒，球在第7秒变红", [(3, 5), (7, 7)]),
    ("3到5秒", [(3, 5)]),
    ("two bottles of 3 litres, 12 people, 4x4, v1.5, 10:30:99x", []),
    ("7 to 3 seconds", []),
    ("It lasts 90000 seconds.", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_times_of_answers(text: str, expected: list[tuple[float, float]]) -> None:
    found = find_times(text, 4000)
    assert [(time.start, time.end) for time in found] == expected
    assert all(text[slice(*time.span)].strip() for time in found)


def test_times_after_the_end_are_left_out() -> None:
    assert [time.start for time in find_times("at 9 s, 10.4 s and 12 s", 9.5)] == [9, 10.4]


@given(st.text(alphabet='0123456789:.-–s ec"startend,{}间到秒andbetween', max_size=60))
def test_any_text_gives_valid_times(text: str) -> None:
    for time in find_times(text, 100.0):
        assert 0 <= time.start <= time.end <= 101
        assert 0 <= time.span[0] < time.span[1] <= len(text)


def test_a_long_text_takes_no_time() -> None:
    """Linear, whatever is in it."""
    for piece in ("1:", "1.", "1 ", "between 1 and ", '"start": 1, ', "1 - ", "99:99:"):
        find_times(piece * 20_000, 100.0)
