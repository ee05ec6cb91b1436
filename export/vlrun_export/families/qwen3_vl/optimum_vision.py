"""The vision encoder in optimum-intel's layout: patch embedding, table of positions, and blocks with mergers.

Inputs of the blocks (N patches of any number of images in merge-block order, D DeepStack levels)::

    hidden_states   [N, hidden]        f32  embedded patches, with positions
    attention_mask  [1, N, N]          f32  0 within an image, -inf elsewhere
    rotary_pos_emb  [N, head_dim / 2]  f32  angles

Outputs: ``last_hidden_state [N / merge^2, out_hidden]``, ``deepstack_feature_lists [D, N / merge^2, out_hidden]``.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
    apply_rotary_pos_emb_vision,
)

from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import VISION_PREFIX
from vlrun_export.families.qwen3_vl.vision_graph import empty_vision, linear, load_vision
from vlrun_export.tracing import Port, TracedGraph, trace


class MergerGraph(torch.nn.Module):
    """Blocks and mergers in one forward pass."""

    def __init__(self, vision: Qwen3VLVisionModel) -> None:
        super().__init__()
        self.vision = vision

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, rotary_pos_emb: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings, and the DeepStack rows."""
        angles = torch.cat((rotary_pos_emb, rotary_pos_emb), dim=-1)
        cos, sin = angles.cos(), angles.sin()
        levels = self.vision.deepstack_visual_indexes
        hidden, deepstack = hidden_states, []
        for index, block in enumerate(self.vision.blocks):
            hidden = hidden + _attend(block.attn, block.norm1(hidden), attention_mask, cos, sin)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if index in levels:
                deepstack.append(self.vision.deepstack_merger_list[levels.index(index)](hidden))
        return self.vision.merger(hidden), torch.stack(deepstack)


def build_merger(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace blocks and mergers. ``matrices``: dtype of the weights; None keeps the checkpoint's."""
    config = checkpoint.config.vision_config
    count, angles = config.spatial_merge_size**2 * 4, config.hidden_size // config.num_heads // 2
    ports = [
        Port("hidden_states", (-1, config.hidden_size), torch.zeros(count, config.hidden_size)),
        Port("attention_mask", (1, -1, -1), torch.zeros(1, count, count)),
        Port("rotary_pos_emb", (-1, angles), torch.zeros(count, angles)),
    ]
    graph = MergerGraph(load_vision(checkpoint, matrices))
    return trace(graph, ports, ["last_hidden_state", "deepstack_feature_lists"])


def build_patch_embedding(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the patch embedding: ``hidden_states [N, pixels]`` to ``last_hidden_state [N, hidden]``."""
    embedding = empty_vision(checkpoint).patch_embed
    checkpoint.load(embedding, f"{VISION_PREFIX}patch_embed.", matrices)
    projection = linear(embedding.proj)
    width = projection.in_features
    return trace(
        torch.nn.Sequential(projection),
        [Port("hidden_states", (-1, width), torch.zeros(4, width))],
        ["last_hidden_state"],
    )


def build_positions(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the table of positions: ``input [4, N]`` i64 to ``last_hidden_state [4, N, hidden]``."""
    table = empty_vision(checkpoint).pos_embed
    checkpoint.load(table, f"{VISION_PREFIX}pos_embed.", matrices)
    return trace(
        torch.nn.Sequential(table),
        [Port("input", (4, -1), torch.zeros(4, 4, dtype=torch.int64))],
        ["last_hidden_state"],
    )


def _attend(
    attention: Qwen3VLVisionAttention,
    hidden: torch.Tensor,
    mask: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> torch.Tensor:
    """Attend within the mask, in the form of optimum-intel, which openvino-genai recognizes."""
    count = hidden.shape[0]
    query, key, value = attention.qkv(hidden).reshape(count, 3, attention.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value, mask)
    return attention.proj(mixed.transpose(0, 1).reshape(count, -1))
