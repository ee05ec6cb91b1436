"""How right an answer is. Knows answers as text; does not know who gave them."""

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

GOOD_IOU = 0.5
CALLS = ("tool_call", "tool_required")
"""Tasks whose answer is a call."""


def score_answer(task: str, answer: str, truth: str) -> float:
    """1 for a right answer, else 0: for places the right labels and an IoU of at least 0.5 of each; for calls the right
    name and all arguments, and nothing beside; otherwise the very text.
    """
    if task in CALLS:
        return float(_calls(answer) == _calls(truth))
    if task == "locate":
        return float(_least_iou(answer, truth) >= GOOD_IOU)
    return float(box_iou(answer, truth) >= GOOD_IOU) if task == "where" else float(answer == truth)


def _calls(answer: str) -> list[object]:
    """What an answer calls with what, and what else it says."""
    pieces = ToolCallParser(TOOL_CALLS)
    said = [*pieces.push(answer), *pieces.flush()]
    return [piece if isinstance(piece, str) else (piece.name, json.loads(piece.arguments)) for piece in said]


def _least_iou(answer: str, truth: str) -> float:
    """Least IoU of two lists of boxes, one by one in their order; 0 if they are not as many."""
    try:
        given, expected = json.loads(answer), json.loads(truth)
        pairs = [(json.dumps(a), json.dumps(b)) for a, b in zip(given, expected, strict=True)]
    except (ValueError, TypeError):
        return 0.0
    return min((box_iou(a, b) for a, b in pairs), default=1.0)


def box_iou(answer: str, truth: str) -> float:
    """IoU of two answers in Qwen's grounding format; 0 if the first does not parse or has another label."""
    try:
        given, expected = json.loads(answer), json.loads(truth)
        if given["label"] != expected["label"] or len(given["bbox_2d"]) != 4:
            return 0.0
        return _iou(given["bbox_2d"], expected["bbox_2d"])
    except (ValueError, TypeError, KeyError):
        return 0.0


def score_batch(batch: Batch, predicted: npt.NDArray[np.int64], tokenizer: Tokenizer) -> Iterator[tuple[str, float]]:
    """Task and score of each exchange of a batch, from the tokens predicted at its targets, in order."""
    wanted = batch.targets >= 0
    tokens = np.full(batch.targets.shape, -1)
    tokens[wanted] = predicted
    for row, exchanges in enumerate(batch.exchanges):
        for exchange, first, end in exchanges:
            guess = tokens[row, first : end - 1].tolist()
            if exchange.task in ("where", "locate"):
                text = tokenizer.decode(guess)
            else:
                text = exchange.answer if guess == batch.targets[row, first : end - 1].tolist() else ""
            ended = tokens[row, end - 1] == batch.targets[row, end - 1]
            name = exchange.task if exchange.language == "en" else f"{exchange.task}_{exchange.language}"
            yield name, score_answer(exchange.task, text, exchange.answer) if ended else 0.0


def _iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
