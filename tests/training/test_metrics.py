"""Scores of answers: exact match, boxes, tool calls."""

from __future__ import annotations

import pytest

from training.metrics import box_iou, score_answer

BOX = '{"bbox_2d": [100, 100, 300, 300], "label": "can"}'


@pytest.mark.parametrize(
    ("answer", "iou"),
    [
        (BOX, 1.0),
        ('{"bbox_2d": [100, 100, 300, 200], "label": "can"}', 0.5),
        ('{"bbox_2d": [300, 300, 400, 400], "label": "can"}', 0.0),
        (BOX.replace("can", "box"), 0.0),
        ('{"bbox_2d": [100, 100, 300], "label": "can"}', 0.0),
        ('{"bbox_2d": ["a", 100, 300, 300], "label": "can"}', 0.0),
        ("[1]", 0.0),
        ("6", 0.0),
        ("", 0.0),
    ],
)
def test_boxes_are_scored_by_overlap_and_malformed_ones_are_zero(answer: str, iou: float) -> None:
    assert box_iou(answer, BOX) == pytest.approx(iou)
    assert score_answer("where", answer, BOX) == float(iou >= 0.5)


def test_exact_match_is_exact() -> None:
    assert score_answer("count_kind", "6", "6") == 1
    assert [score_answer("count_kind", wrong, "6") for wrong in ("16", "6.", "six", "")] == [0] * 4


def test_lists_of_boxes_need_every_position_and_label() -> None:
    truth = '[{"bbox_2d": [0, 0, 100, 100], "label": "can"}, {"bbox_2d": [500, 0, 600, 100], "label": "can"}]'
    assert score_answer("locate", truth, truth) == 1
    assert score_answer("locate", truth.replace("600", "590"), truth) == 1
    assert score_answer("locate", truth.replace("600", "540"), truth) == 0
    assert score_answer("locate", '[{"bbox_2d": [0, 0, 100, 100], "label": "can"}]', truth) == 0
    assert score_answer("locate", "[]", "[]") == 1
    assert score_answer("locate", "no", truth) == 0


CALL = '<tool_call>\n{"name": "report", "arguments": {"price": 9.40}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (CALL, 1),
        (CALL.replace("9.40", "9.4"), 1),
        (CALL.replace("9.40", "9.04"), 0),
        (CALL.replace("report", "Report"), 0),
        (CALL + "\n" + CALL, 0),
        ("Well. " + CALL, 0),
        (CALL.removesuffix("</tool_call>"), 0),
        ("9.40", 0),
        ("", 0),
    ],
)
def test_tool_calls_need_the_name_and_all_arguments_and_nothing_else(answer: str, score: int) -> None:
    assert score_answer("tool_call", answer, CALL) == score
