"""What a token looked at: the keys in the cache's blocks, the attention of queries on them, and heat on an image.

Knows how the CPU plugin lays out keys and the softmax over them; knows neither text nor pixels, nor who owns a block.

Heat is attention, with two corrections that others found necessary. Some tokens draw attention whatever is asked: the
first token of a text (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023), patches of plain
background (Darcet et al., "Vision Transformers Need Registers", 2023), and visual tokens inside a decoder (Kang et al.,
"See What You Are Told: Visual Attention Sink in Large Multimodal Models", 2025). They are taken out. And few heads
tell where a thing is: those that look at the image much and at few places of it (Kang et al., "Your Large
Vision-Language Model Only Needs A Few Attention Heads For Visual Grounding", 2025). They count for more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionTrace
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid

AT_ONCE = 32
"""Answer tokens whose attention is in memory together: in the 2B model 1.6 MB for 800 tokens of prompt."""

SINK_DISTANCE = 0.5
"""A visual token is a sink if its keys' distance to the first token's is less than this part of the distance to what
visual tokens have in common. In the embedded model, which has no sinks, none in 100 images comes below 0.86."""

ALWAYS, STANDS_OUT = 0.1, 5.0
"""A corner is a sink if all but this part of an answer looks at it so many times as much as at any of its neighbours,
and as at half of the image."""

LEAST_ANSWER, LEAST_IMAGE = 8, 256
"""Tokens of an answer and of an image: where there are fewer, that says nothing. A thing may fill the corner of a
small image and be all that the answer is about: in the embedded model's, of 64 tokens, in one answer of 100."""


def heat(watched: AttentionTrace, start: int, grid: Grid) -> FloatArray:
    """How much each token of an answer looked where, ``[A, rows, columns]``, at the image of ``grid`` whose visual
    tokens stand in the prompt from ``start`` on.

    Each is a map of the image's visual tokens: attention, averaged over layers and heads, a head counting by how
    ``_pointed`` its look is. Sums are not 1: a token that looks at the words before it leaves a paler map. To be
    compared within one answer, and summed over the tokens of a word.
    """
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    span = slice(start, start + grid.tokens)
    sinks = _like_the_first_token(watched.keys, span)
    maps = _looks(watched, span, sinks)
    always = _always_looked_at(maps.reshape(-1, rows, columns)) & ~sinks
    if always.any():
        sinks |= always
        maps = _looks(watched, span, sinks)
    return _filled(maps.reshape(-1, rows, columns), sinks.reshape(rows, columns))


def attention(queries: FloatArray, keys: FloatArray) -> FloatArray:
    """Weights ``[A, heads, T]`` of ``queries [A, heads, head_dim]`` on ``keys [T, kv_heads, head_dim]``, each row's sum
    1. Neighbouring heads share their keys.
    """
    count, heads, size = queries.shape
    kv_heads = keys.shape[1]
    grouped = queries.reshape(count, kv_heads, -1, size).transpose(1, 0, 2, 3).reshape(kv_heads, -1, size)
    scores = grouped @ keys.transpose(1, 2, 0) * np.float32(size**-0.5)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    by_head: FloatArray = scores.reshape(kv_heads, count, -1, len(keys)).transpose(1, 0, 2, 3)
    return by_head.reshape(count, heads, len(keys))


def _looks(watched: AttentionTrace, span: slice, sinks: npt.NDArray[np.bool_]) -> FloatArray:
    """Attention of the answer's tokens on the visual tokens in ``span`` but the sinks, ``[A, N]``, over heads and
    layers.
    """
    count, layers, heads = watched.queries.shape[:3]
    looks = np.zeros((count, len(sinks)), np.float32)
    for begin in range(0, count, AT_ONCE):
        for layer, keys in enumerate(watched.keys):
            queries = watched.queries[begin : begin + AT_ONCE, layer].astype(np.float32)
            weights = attention(queries, keys)[..., span]
            weights[..., sinks] = 0
            looks[begin : begin + AT_ONCE] += (weights * _pointed(weights)).sum(1)
    return looks / np.float32(layers * heads)


def _pointed(weights: FloatArray) -> FloatArray:
    """How much each head points at few places, ``[A, heads, N]`` to ``[A, heads, 1]``: 1 for one that sees a single
    token, 0 for one that sees all alike, in between by its entropy, squared. How much of its attention falls on the
    image at all counts besides: that is in ``weights``.
    """
    shares = weights / np.maximum(weights.sum(-1, keepdims=True), np.finfo(np.float32).tiny)
    entropy = -(shares * np.log(np.maximum(shares, np.finfo(np.float32).tiny))).sum(-1, keepdims=True)
    pointed: FloatArray = (1 - entropy / np.log(max(weights.shape[-1], 2))) ** 2
    return pointed


def _like_the_first_token(keys: FloatArray, span: slice) -> npt.NDArray[np.bool_]:
    """Which visual tokens have keys like the first token of the prompt ``[N]``, the sink of every text. A query finds
    both alike, whatever it asks. Keys are turned by their position; the norms of the pairs that are turned together are
    not.
    """
    half = keys.shape[-1] // 2
    norms = np.hypot(keys[..., :half], keys[..., half:]).transpose(1, 0, 2, 3).reshape(keys.shape[1], -1)
    common = np.median(norms[span], axis=0)
    to_first = np.linalg.norm(norms[span] - norms[0], axis=-1)
    alike: npt.NDArray[np.bool_] = to_first < SINK_DISTANCE * np.linalg.norm(norms[span] - common, axis=-1)
    return alike


def _always_looked_at(maps: FloatArray) -> npt.NDArray[np.bool_]:
    """Which corners ``[N]`` an answer ``[A, rows, columns]`` looks at from beginning to end, and not around them."""
    count, rows, columns = maps.shape
    found = np.zeros((rows, columns), np.bool_)
    if count >= LEAST_ANSWER and found.size >= LEAST_IMAGE:
        always = np.quantile(maps, ALWAYS, axis=0)
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
            near = np.sort(always[_around(row, column)], axis=None)[:-1]
            found[row, column] = always[row, column] > STANDS_OUT * max(near.max(initial=0), np.median(always))
    return found.ravel()


def _filled(maps: FloatArray, sinks: npt.NDArray[np.bool_]) -> FloatArray:
    """Maps ``[A, rows, columns]`` in which each sink has the mean of its neighbours that are none."""
    for row, column in np.argwhere(sinks):
        around = _around(row, column)
        near = maps[(slice(None), *around)][:, ~sinks[around]]
        maps[:, row, column] = near.mean(-1) if near.size else 0
    return maps


def _around(row: int, column: int) -> tuple[slice, slice]:
    """A token of a map and its neighbours."""
    return slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
