"""Computes heat maps of an image from recorded queries and keys.

A heat map is attention with two corrections. Sinks, tokens that attract attention whatever the question, are removed:
the first token of a text (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023), patches of
plain background (Darcet et al., "Vision Transformers Need Registers", 2023) and visual tokens in a decoder (Kang et
al., "See What You Are Told: Visual Attention Sink in Large Multimodal Models", 2025). Heads that attend to few places
of the image get more weight, because only a few heads localize (Kang et al., "Your Large Vision-Language Model Only
Needs A Few Attention Heads For Visual Grounding", 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionTrace
from vlrun.heatmap.heat_map import Heat
from vlrun.media.transform import Corners
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid

CHUNK_TOKENS = 32
"""Answer tokens whose attention is in memory at once: 1.6 MB for 800 prompt tokens of the 2B model."""
SINK_DISTANCE = 0.5
"""A visual token is a sink if the distance of its keys to those of the first token is below this share of their
distance to the median visual token. The embedded model has no sinks: its minimum in 100 images is 0.86.
"""
CORNER_QUANTILE, CORNER_RATIO = 0.1, 5.0
"""A corner is a sink if all but ``CORNER_QUANTILE`` of the answer's tokens attend to it ``CORNER_RATIO`` times more
than to its neighbours and to the median token.
"""
MIN_ANSWER, MIN_IMAGE = 8, 256
"""Tokens of answer and image below which corners are never sinks: in a small image the corner may contain the object
that the whole answer is about (one in 100 answers of the embedded model about images of 64 tokens).
"""


def heat_maps(trace: AttentionTrace, start: int, grid: Grid) -> FloatArray:
    """Compute how much each of an answer's A tokens attended to each visual token of an image.

    Args:
        trace: The recorded attention.
        start: Index of the image's first visual token in the prompt.
        grid: The image's patch grid.

    Returns:
        ``[A, rows, columns]``: attention averaged over layers and heads, weighted by the focus of each head. Maps do
        not sum to 1: a token that attends to the text has a paler map. Compare maps only within one answer.
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


def heat_of(
    trace: AttentionTrace | None,
    images: Sequence[tuple[int, Grid]],
    first: int,
    texts: Sequence[str],
    corners: tuple[Corners, ...],
) -> Heat | None:
    """Return the attention of an answer's tokens to its images; None if nothing was recorded or there are no images.

    Args:
        trace: The recorded attention of all generated tokens.
        images: Index of the first visual token and grid of each image.
        first: Index of the answer's first token, after the reasoning.
        texts: The text of each of the answer's tokens.
        corners: Those of each image in its original.
    """
    if trace is None or not images:
        return None
    answer = slice(first, first + len(texts))
    return Heat(tuple(heat_maps(trace, start, grid)[answer] for start, grid in images), tuple(texts), corners)


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
    """Return the focus of each head, ``[A, heads, N]`` to ``[A, heads, 1]``: the square of one minus the normalized
    entropy; 1 for a head that attends to a single token, 0 for uniform attention.
    """
    tiny = np.finfo(np.float32).tiny
    shares = weights / np.maximum(weights.sum(-1, keepdims=True), tiny)
    entropy = -(shares * np.log(np.maximum(shares, tiny))).sum(-1, keepdims=True)
    focus: FloatArray = (1 - entropy / np.log(max(weights.shape[-1], 2))) ** 2
    return focus


def _similar_to_first_token(keys: FloatArray, span: slice) -> npt.NDArray[np.bool_]:
    """Return which visual tokens ``[N]`` have keys like the prompt's first token, the sink of every text.

    Compares the norms of the rotary pairs, because they do not depend on the position.
    """
    half = keys.shape[-1] // 2
    norms = np.hypot(keys[..., :half], keys[..., half:]).transpose(1, 0, 2, 3).reshape(keys.shape[1], -1)
    median = np.median(norms[span], axis=0)
    to_first = np.linalg.norm(norms[span] - norms[0], axis=-1)
    similar: npt.NDArray[np.bool_] = to_first < SINK_DISTANCE * np.linalg.norm(norms[span] - median, axis=-1)
    return similar


def _corner_sinks(maps: FloatArray) -> npt.NDArray[np.bool_]:
    """Return the corners ``[N]`` that nearly all tokens of ``maps [A, rows, columns]`` attend to, unlike neighbours."""
    count, rows, columns = maps.shape
    found = np.zeros((rows, columns), np.bool_)
    if count >= MIN_ANSWER and found.size >= MIN_IMAGE:
        low = np.quantile(maps, CORNER_QUANTILE, axis=0)
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
            neighbours = np.sort(low[_neighbourhood(row, column)], axis=None)[:-1]
            found[row, column] = low[row, column] > CORNER_RATIO * max(neighbours.max(initial=0), np.median(low))
    return found.ravel()


def _fill(maps: FloatArray, sinks: npt.NDArray[np.bool_]) -> FloatArray:
    """Set each sink to the mean of its neighbours that are not sinks."""
    for row, column in np.argwhere(sinks):
        around = _neighbourhood(row, column)
        neighbours = maps[(slice(None), *around)][:, ~sinks[around]]
        maps[:, row, column] = neighbours.mean(-1) if neighbours.size else 0
    return maps


def _neighbourhood(row: int, column: int) -> tuple[slice, slice]:
    """Return the slices of a cell and its neighbours."""
    return slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
