"""Scores of answers: exact match, IoU of boxes, equality of tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.tool_calls import ToolCallParser

if TYPE_CHECKING:
    from training.batches import Batch

MIN_IOU = 0.5
CALL_TASKS = ("tool_call", "tool_required")
"""Tasks whose answer is a tool call."""


def score_answer(task: str, answer: str, truth: str) -> float:
    """Score an answer with 1 or 0.

    Boxes need the right labels and an IoU of at least 0.5 each; tool calls the right name and all arguments, with
    nothing else; all other answers must equal the truth.
    """
    if task in CALL_TASKS:
        return float(_calls(answer) == _calls(truth))
    if task == "locate":
        return float(_least_iou(answer, truth) >= MIN_IOU)
    return float(box_iou(answer, truth) >= MIN_IOU) if task == "where" else float(answer == truth)


def _calls(answer: str) -> list[object]:
    """The calls and the text in an answer."""
    splitter = ToolCallParser(TOOL_CALLS)
    found = [*splitter.push(answer), *splitter.flush()]
    return [piece if isinstance(piece, str) else (piece.name, json.loads(piece.arguments)) for piece in found]


def _least_iou(answer: str, truth: str) -> float:
    """Smallest IoU of two lists of boxes in order; 0 if their lengths differ."""
    try:
        given, expected = json.loads(answer), json.loads(truth)
        pairs = [(json.dumps(a), json.dumps(b)) for a, b in zip(given, expected, strict=True)]
    except (ValueError, TypeError):
        return 0.0
    return min((box_iou(a, b) for a, b in pairs), default=1.0)


def box_iou(answer: str, truth: str) -> float:
    """IoU of two answers in Qwen's grounding format; 0 if the answer does not parse or its label differs."""
    try:
        given, expected = json.loads(answer), json.loads(truth)
        if given["label"] != expected["label"] or len(given["bbox_2d"]) != 4:
            return 0.0
        return _iou(given["bbox_2d"], expected["bbox_2d"])
    except (ValueError, TypeError, KeyError):
        return 0.0


def score_batch(batch: Batch, predicted: npt.NDArray[np.int64], tokenizer: Tokenizer) -> Iterator[tuple[str, float]]:
    """Task and score of each question in a batch, from the tokens predicted at all targets, in order."""
    wanted = batch.targets >= 0
    tokens = np.full(batch.targets.shape, -1)
    tokens[wanted] = predicted
    for row, qa_pairs in enumerate(batch.qa_pairs):
        for qa, first, end in qa_pairs:
            predicted_answer = tokens[row, first : end - 1].tolist()
            if qa.task in ("where", "locate"):
                text = tokenizer.decode(predicted_answer)
            else:
                text = qa.answer if predicted_answer == batch.targets[row, first : end - 1].tolist() else ""
            ended = tokens[row, end - 1] == batch.targets[row, end - 1]
            name = qa.task if qa.language == "en" else f"{qa.task}_{qa.language}"
            yield name, score_answer(qa.task, text, qa.answer) if ended else 0.0


def _iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
