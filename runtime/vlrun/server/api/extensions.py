"""The field ``vlrun`` of a chat completion's choice: what a complete answer has that OpenAI's fields cannot tell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from vlrun.heatmap.heat_map import Heat
from vlrun.server.api.answers import Json, extension
from vlrun.server.task_answers import TaskAnswer
from vlrun.types.answer import Answer
from vlrun.types.mark import Mark

MAX_HEAT_BYTES = 2**20
"""Values of a heat map, one byte each: 400 tokens on the 2,560 cells of the highest detail. Longer answers have fewer
maps, each the mean of several tokens."""


def chat_extension(answer: Answer, *, whole_text: bool) -> Json:
    """The field, if there is anything to tell. ``whole_text``: the choice's content is all of the answer's text."""
    more: Json = {}
    if answer.value is not None:
        more["value"] = msgspec.Raw(msgspec.json.format(answer.text.encode(), indent=-1))  # numbers as they are
    if answer.marks:
        more["marks"] = [_mark(mark, whole_text) for mark in answer.marks]
    if answer.times:
        more["times"] = [{"start": time.start, "end": time.end} for time in answer.times]
    if answer.heat is not None and answer.heat.token_texts:
        more["heatmap"] = heat_map(answer.heat, answer.text)
    if isinstance(answer, TaskAnswer) and answer.votes:
        more["votes"] = answer.votes
    if isinstance(answer, TaskAnswer) and answer.steps:
        more["reasoning"] = answer.steps
    return {"vlrun": {**extension(answer).get("vlrun", {}), **more}} if more else extension(answer)


def _mark(mark: Mark, whole_text: bool) -> Json:
    place = {"box": mark.box} if mark.box else {"point": mark.point}
    start, end = mark.span or (0, 0)
    return {"label": mark.label, **place, **({"start": start, "end": end} if end and whole_text else {})}


def heat_map(heat: Heat, text: str) -> Json:
    """A heat map of at most ``MAX_HEAT_BYTES``: bytes ``[tokens, rows, columns]`` of each image, scaled to its maximum,
    with its corners in the original image, and the text of each token or group of tokens. ``text``: that of the answer.
    """
    texts = _within(heat.token_texts, text)
    tokens = len(texts)
    most = max(1, MAX_HEAT_BYTES // sum(maps[0].size for maps in heat.maps))
    size = math.ceil(tokens / most)
    starts = range(0, tokens, size)
    images = []
    for maps, corners in zip(heat.maps, heat.corners, strict=True):
        means = np.stack([maps[start : start + size].mean(0) for start in starts])
        highest = float(means.max())
        levels = np.rint(means * (255 / highest if highest else 0)).astype(np.uint8)
        rows, columns = levels.shape[1:]
        places = [[round(value, 1) for value in corner] for corner in corners]
        images.append({"rows": rows, "columns": columns, "max": highest, "values": levels.tobytes(), "corners": places})
    return {"images": images, "tokens": ["".join(texts[start : start + size]) for start in starts]}


def _within(tokens: Sequence[str], text: str) -> Sequence[str]:
    """The texts of tokens without what is before or after the answer's text: the lines between the reasoning of a
    Thinking model and its answer, and a stop string. A text that is not in them, as its total was corrected, changes
    nothing.
    """
    begin = "".join(tokens).find(text)
    if begin < 0:
        return tokens
    ends = list(itertools.accumulate(map(len, tokens)))
    return [
        token[max(begin - end + len(token), 0) : max(begin + len(text) - end + len(token), 0)]
        for token, end in zip(tokens, ends, strict=True)
    ]
