"""From recorded queries and keys to heat maps of an image.

A heat map is attention with two corrections from the literature. Some tokens attract attention whatever is asked: the
first token of a text (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023), patches of plain
background (Darcet et al., "Vision Transformers Need Registers", 2023) and visual tokens inside a decoder (Kang et al.,
"See What You Are Told: Visual Attention Sink in Large Multimodal Models", 2025). These sinks are removed. And only a
few heads localize: those that attend to the image much and to few places of it (Kang et al., "Your Large
Vision-Language Model Only Needs A Few Attention Heads For Visual Grounding", 2025). They get more weight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionTrace
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid

CHUNK_TOKENS = 32
"""Answer tokens whose attention is in memory at once: in the 2B model 1.6 MB for 800 prompt tokens."""
SINK_DISTANCE = 0.5
"""A visual token is a sink if its keys are closer to those of the first token than this share of their distance to the
median visual token. In the embedded model, which has no sinks, none in 100 images comes below 0.86.
"""
CORNER_QUANTILE, CORNER_RATIO = 0.1, 5.0
"""A corner is a sink if all but this share of the answer's tokens attend to it so many times more than to any of its
neighbours and to the median token.
"""
MIN_ANSWER, MIN_IMAGE = 8, 256
"""Tokens of answer and image below which corners are not judged: an object may fill the corner of a small image and be
all that the answer is about (in the embedded model's images of 64 tokens, in one answer of 100).
"""


def heat_maps(trace: AttentionTrace, start: int, grid: Grid) -> FloatArray:
    """Compute how much each of an answer's A tokens attended to each visual token of an image.

    Args:
        trace: The recorded attention.
        start: Index of the image's first visual token in the prompt.
        grid: Its patch grid.

    Returns:
        ``[A, rows, columns]``: attention averaged over layers and heads, weighted by how focused each head is. The maps
        do not sum to 1: a token that attends to the text has a paler map. Compare maps within one answer, and add those
        of a word's tokens.
    """
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    span = slice(start, start + grid.tokens)
    sinks = _similar_to_first_token(trace.keys, span)
    maps = _image_attention(trace, span, sinks)
    corners = _corner_sinks(maps.reshape(-1, rows, columns)) & ~sinks
    if corners.any():
        sinks |= corners
        maps = _image_attention(trace, span, sinks)
    return _fill(maps.reshape(-1, rows, columns), sinks.reshape(rows, columns))


def attention(queries: FloatArray, keys: FloatArray) -> FloatArray:
    """Compute attention weights ``[A, heads, T]`` of ``queries [A, heads, head_dim]`` on ``keys [T, kv_heads,
    head_dim]``; each row sums to 1. Neighbouring heads share their keys (grouped-query attention).
    """
    count, heads, size = queries.shape
    kv_heads = keys.shape[1]
    grouped = queries.reshape(count, kv_heads, -1, size).transpose(1, 0, 2, 3).reshape(kv_heads, -1, size)
    scores = grouped @ keys.transpose(1, 2, 0) * np.float32(size**-0.5)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    by_head: FloatArray = scores.reshape(kv_heads, count, -1, len(keys)).transpose(1, 0, 2, 3)
    return by_head.reshape(count, heads, len(keys))


def _image_attention(trace: AttentionTrace, span: slice, sinks: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the mean weighted attention on the visual tokens in ``span`` except sinks, ``[A, N]``."""
    count, layers, heads = trace.queries.shape[:3]
    mean = np.zeros((count, len(sinks)), np.float32)
    for begin in range(0, count, CHUNK_TOKENS):
        chunk = slice(begin, begin + CHUNK_TOKENS)
        for layer, keys in enumerate(trace.keys):
            weights = attention(trace.queries[chunk, layer].astype(np.float32), keys)[..., span]
            weights[..., sinks] = 0
            mean[chunk] += (weights * _focus(weights)).sum(1)
    return mean / np.float32(layers * heads)


def _focus(weights: FloatArray) -> FloatArray:
    """Return how focused each head is, ``[A, heads, N]`` to ``[A, heads, 1]``: 1 for a head that attends to a single
    token, 0 for one that attends to all alike, in between the square of one minus its normalized entropy.
    """
    tiny = np.finfo(np.float32).tiny
    shares = weights / np.maximum(weights.sum(-1, keepdims=True), tiny)
    entropy = -(shares * np.log(np.maximum(shares, tiny))).sum(-1, keepdims=True)
    focus: FloatArray = (1 - entropy / np.log(max(weights.shape[-1], 2))) ** 2
    return focus


def _similar_to_first_token(keys: FloatArray, span: slice) -> npt.NDArray[np.bool_]:
    """Return which visual tokens ``[N]`` have keys like the prompt's first token, the sink of every text.

    Keys are rotated by their position; the norms of the pairs that are rotated together are not changed by it.
    """
    half = keys.shape[-1] // 2
    norms = np.hypot(keys[..., :half], keys[..., half:]).transpose(1, 0, 2, 3).reshape(keys.shape[1], -1)
    median = np.median(norms[span], axis=0)
    to_first = np.linalg.norm(norms[span] - norms[0], axis=-1)
    similar: npt.NDArray[np.bool_] = to_first < SINK_DISTANCE * np.linalg.norm(norms[span] - median, axis=-1)
    return similar


def _corner_sinks(maps: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which corners ``[N]`` nearly all tokens of ``maps [A, rows, columns]`` attend to, but not around them."""
    count, rows, columns = maps.shape
    found = np.zeros((rows, columns), np.bool_)
    if count >= MIN_ANSWER and found.size >= MIN_IMAGE:
        low = np.quantile(maps, CORNER_QUANTILE, axis=0)
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
            neighbours = np.sort(low[_neighbourhood(row, column)], axis=None)[:-1]
            found[row, column] = low[row, column] > CORNER_RATIO * max(neighbours.max(initial=0), np.median(low))
    return found.ravel()


def _fill(maps: FloatArray, sinks: npt.NDArray[np.bool_]) -> FloatArray:
    """Give each sink the mean of its neighbours that are not sinks."""
    for row, column in np.argwhere(sinks):
        around = _neighbourhood(row, column)
        neighbours = maps[(slice(None), *around)][:, ~sinks[around]]
        maps[:, row, column] = neighbours.mean(-1) if neighbours.size else 0
    return maps


def _neighbourhood(row: int, column: int) -> tuple[slice, slice]:
    """Return a cell of a map and its neighbours."""
    return slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
