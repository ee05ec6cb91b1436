"""The vision encoder as one OpenVINO model: patches of one image in, embeddings and DeepStack rows out.

Inputs (N patches in merge-block order; positions from ``vlrun.models.qwen3_vl.positions.patch_positions``)::

    patches           [N, channels * temporal * patch * patch]  f32
    position_indices  [4, N]         i64  corners of the bilinear interpolation in the learned position table
    position_weights  [4, N]         f32
    rotary_cos        [N, head_dim]  f32
    rotary_sin        [N, head_dim]  f32

Output: ``features [1 + D, N / merge^2, hidden]`` f32; row 0: embeddings, rows 1..D: DeepStack.

Each call takes one image or one pair of video frames, between which the reference has no attention, so no mask is
needed. The modules are transformers' (4.57 to 5.24, ``modeling_qwen3_vl.py``); only ``Qwen3VLVisionModel.forward`` and
``Qwen3VLVisionAttention.forward`` are rewritten, so that they can be traced for any N.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
    apply_rotary_pos_emb_vision,
)

from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import VISION_PREFIX
from vlrun_export.tracing import Port, TracedGraph, trace


class VisionGraph(torch.nn.Module):
    """Patch embedding, interpolated positions, blocks and mergers in one forward pass."""

    def __init__(self, vision: Qwen3VLVisionModel) -> None:
        super().__init__()
        self.vision = vision
        self.levels = {block: level for level, block in enumerate(vision.deepstack_visual_indexes)}
        self.patch_embed = linear(vision.patch_embed.proj)

    def forward(
        self,
        patches: torch.Tensor,
        position_indices: torch.Tensor,
        position_weights: torch.Tensor,
        rotary_cos: torch.Tensor,
        rotary_sin: torch.Tensor,
    ) -> torch.Tensor:
        """Return features ``[1 + D, N / merge^2, hidden]``."""
        corners = self.vision.pos_embed(position_indices) * position_weights[:, :, None]
        hidden = self.patch_embed(patches) + (corners[0] + corners[1] + corners[2] + corners[3])
        deepstack = [hidden] * len(self.levels)
        for index, block in enumerate(self.vision.blocks):
            hidden = hidden + _attend(block.attn, block.norm1(hidden), rotary_cos, rotary_sin)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if index in self.levels:
                level = self.levels[index]
                deepstack[level] = self.vision.deepstack_merger_list[level](hidden)
        return torch.stack([self.vision.merger(hidden), *deepstack])


def build_vision(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the checkpoint's vision encoder. ``matrices``: dtype of the weights; None keeps the checkpoint's."""
    vision = load_vision(checkpoint, matrices)
    return trace(VisionGraph(vision), _ports(checkpoint.config.vision_config), ["features"])


def load_vision(checkpoint: Checkpoint, matrices: torch.dtype | None) -> Qwen3VLVisionModel:
    """Return transformers' module with the checkpoint's weights."""
    vision = empty_vision(checkpoint)
    checkpoint.load(vision, VISION_PREFIX, matrices)
    return vision


def empty_vision(checkpoint: Checkpoint) -> Qwen3VLVisionModel:
    """Return transformers' module without weights."""
    with torch.device("meta"):
        return Qwen3VLVisionModel._from_config(checkpoint.config.vision_config, attn_implementation="sdpa")


def _attend(
    attention: Qwen3VLVisionAttention, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """Attend among all patches. The reference splits the sequence by a Python list, which would fix its length."""
    count = hidden.shape[0]
    query, key, value = attention.qkv(hidden).reshape(count, 3, attention.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
    query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return attention.proj(mixed.squeeze(0).transpose(0, 1).reshape(count, -1))


def linear(convolution: torch.nn.Conv3d) -> torch.nn.Linear:
    """Convert the patch embedding to a matrix product, because its kernel covers exactly one patch."""
    weight = convolution.weight.flatten(1)
    with torch.device("meta"):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": convolution.bias}, assign=True)
    return linear


def _ports(config: Qwen3VLVisionConfig) -> list[Port]:
    count = config.spatial_merge_size**2 * 4
    width = config.in_channels * config.temporal_patch_size * config.patch_size**2
    head_dim = config.hidden_size // config.num_heads
    return [
        Port("patches", (-1, width), torch.zeros(count, width)),
        Port("position_indices", (4, -1), torch.zeros(4, count, dtype=torch.int64)),
        Port("position_weights", (4, -1), torch.zeros(4, count)),
        Port("rotary_cos", (-1, head_dim), torch.ones(count, head_dim)),
        Port("rotary_sin", (-1, head_dim), torch.zeros(count, head_dim)),
    ]
