"""Positions of patches and tokens: learned vision positions, vision rotary angles, interleaved M-RoPE.

Equal to the functions of transformers 4.57.6, ``models/qwen3_vl/modeling_qwen3_vl.py``, that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlrun.models.family import PatchPositions
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.vision.grid import Grid


def patch_positions(grid: Grid, position_side: int, head_dim: int, theta: float) -> PatchPositions:
    """Return the position inputs of the vision encoder (``fast_pos_embed_interpolate`` and ``rot_pos_emb``).

    Args:
        grid: Patches of the image.
        position_side: Side of the learned position table, in patches.
        head_dim: Size of one vision attention head.
        theta: Base of the rotary frequencies.
    """
    indices, weights = _interpolation(grid, position_side)
    cos, sin = _rotary(grid, head_dim, theta)
    return PatchPositions(indices=indices, weights=weights, cos=cos, sin=sin)


def token_positions(length: int, images: Sequence[tuple[int, Grid]]) -> IntArray:
    """Return the M-RoPE positions ``[3, length]`` (rows: time, height, width) of a prompt (``get_rope_index``).

    Text counts up in all three rows. An image has one time position and spans its merged grid in height and width; the
    following text continues after its largest position.

    Args:
        length: Tokens of the prompt.
        images: Index of the first visual token and grid of each image, in order.
    """
    positions = np.empty((3, length), np.int64)
    cursor = 0
    following = 0
    for start, grid in images:
        positions[:, cursor:start] = np.arange(following, following + start - cursor)
        following += start - cursor
        rows, columns = grid.height // grid.merge, grid.width // grid.merge
        end = start + rows * columns
        positions[0, start:end] = following
        positions[1, start:end] = following + np.repeat(np.arange(rows), columns)
        positions[2, start:end] = following + np.tile(np.arange(columns), rows)
        following += max(rows, columns)
        cursor = end
    positions[:, cursor:] = np.arange(following, following + length - cursor)
    return positions


def _interpolation(grid: Grid, side: int) -> tuple[IntArray, FloatArray]:
    rows, columns = _linspace(side, grid.height), _linspace(side, grid.width)
    row_floor, column_floor = rows.astype(np.int64), columns.astype(np.int64)
    row_ceil, column_ceil = np.minimum(row_floor + 1, side - 1), np.minimum(column_floor + 1, side - 1)
    row_part, column_part = rows - row_floor.astype(np.float32), columns - column_floor.astype(np.float32)
    one = np.float32(1)
    corners = [
        (row_floor, column_floor, one - row_part, one - column_part),
        (row_floor, column_ceil, one - row_part, column_part),
        (row_ceil, column_floor, row_part, one - column_part),
        (row_ceil, column_ceil, row_part, column_part),
    ]
    order = _merge_order(grid)
    indices = np.stack([(r[:, None] * side + c[None]).ravel()[order] for r, c, _, _ in corners])
    weights = np.stack([(r[:, None] * c[None]).ravel()[order] for _, _, r, c in corners])
    return indices, weights


def _linspace(side: int, count: int) -> FloatArray:
    """Equal ``torch.linspace(0, side - 1, count)`` bit for bit.

    torch counts up to the middle and down from the end with fused multiply-adds; float64 with one final rounding gives
    the same result.
    """
    if count == 1:
        return np.zeros(1, np.float32)
    step = float(np.float32(side - 1) / np.float32(count - 1))
    index = np.arange(count)
    return np.where(index < count // 2, step * index, side - 1 - step * (count - 1 - index)).astype(np.float32)


def _rotary(grid: Grid, head_dim: int, theta: float) -> tuple[FloatArray, FloatArray]:
    exponents = np.arange(0, head_dim // 2, 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequencies = np.float32(1) / np.float32(theta) ** exponents
    order = _merge_order(grid)
    rows = np.repeat(np.arange(grid.height), grid.width)[order].astype(np.float32)
    columns = np.tile(np.arange(grid.width), grid.height)[order].astype(np.float32)
    half = np.concatenate([np.outer(rows, frequencies), np.outer(columns, frequencies)], axis=1)
    angles = np.concatenate([half, half], axis=1)
    return np.cos(angles), np.sin(angles)


def _merge_order(grid: Grid) -> IntArray:
    """Return row-major patch indices in the encoder's order: the patches of a merge block are neighbours."""
    m = grid.merge
    blocks = np.arange(grid.patches).reshape(grid.height // m, m, grid.width // m, m)
    return blocks.transpose(0, 2, 1, 3).reshape(-1)
