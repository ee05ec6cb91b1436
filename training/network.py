"""The tiny Qwen3-VL: its configuration, and a batched forward pass over transformers' own modules.

transformers encodes images one by one; here all images, or frame pairs, of a batch share one grid, and several
questions share an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3_vl.modeling_qwen3_vl import rotate_half

from vlrun.models.qwen3_vl.positions import patch_positions
from vlrun.vision.grid import Grid

PATCH = 16
MERGE = 2
POSITION_SIDE = 16
VISION_HEADS = 4
VISION_HIDDEN = 160
ROPE_THETA_VISION = 10000.0
SUPERVISED_LAYER = 2
"""The text layer whose first head has attention supervision: earlier layers read the question, later ones form the
answer."""


def configuration(vocab_size: int, ids: dict[str, int]) -> Qwen3VLConfig:
    """Configuration for a vocabulary of ``vocab_size``; ``ids`` maps control tokens to their ids."""
    return Qwen3VLConfig(
        text_config={
            "vocab_size": vocab_size, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "hidden_act": "silu",
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [12, 10, 10]},
            "tie_word_embeddings": True, "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 5, "hidden_size": VISION_HIDDEN, "intermediate_size": 480, "num_heads": VISION_HEADS,
            "in_channels": 3, "patch_size": PATCH, "temporal_patch_size": 2, "spatial_merge_size": MERGE,
            "out_hidden_size": 256, "num_position_embeddings": POSITION_SIDE**2, "deepstack_visual_indexes": [1, 3],
            "hidden_act": "gelu_pytorch_tanh",
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip


@dataclass(frozen=True)
class VisionPositions:
    """Position inputs of the vision encoder, shared by all images of one grid."""

    indices: torch.Tensor
    weights: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


def vision_positions(grid: Grid) -> VisionPositions:
    """Position inputs for a grid, computed by the runtime's own functions."""
    p = patch_positions(grid, POSITION_SIDE, VISION_HIDDEN // VISION_HEADS, ROPE_THETA_VISION)
    return VisionPositions(*(torch.from_numpy(a) for a in (p.indices, p.weights, p.cos, p.sin)))


@dataclass
class SupervisedHead:
    """Attention ``scores [B, T, T]`` of the first head of layer ``SUPERVISED_LAYER``, before the softmax.

    ``inputs [B, T, hidden]``: hidden states before that layer.
    """

    scores: torch.Tensor | None = None
    inputs: torch.Tensor | None = None


class BatchedVLM(torch.nn.Module):
    """Batched forward over the modules of a ``Qwen3VLForConditionalGeneration``."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        model.config.text_config._attn_implementation = "plain"

    def encode(self, patches: torch.Tensor, positions: VisionPositions) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encode ``patches [B, N, 768]`` of still images, or ``[B, 2, N, 768]`` of frame pairs.

        A still image has two equal frames; one of them is given.

        Returns:
            Visual tokens ``[B, N/4, hidden]``, and such a tensor for each DeepStack level.
        """
        visual = self.model.model.visual
        batch = patches.shape[0]
        proj = visual.patch_embed.proj
        if patches.ndim == 3:  # equal frames: their weights add up
            hidden = F.linear(patches, proj.weight.sum(2).flatten(1), proj.bias)
        else:
            first, second = (proj.weight[:, :, frame].flatten(1) for frame in range(2))
            hidden = F.linear(patches[:, 0], first, proj.bias) + F.linear(patches[:, 1], second)
        hidden = hidden + (visual.pos_embed.weight[positions.indices] * positions.weights[..., None]).sum(0)
        deep: list[torch.Tensor] = []
        for index, block in enumerate(visual.blocks):
            hidden = vision_block(block, hidden, positions.cos, positions.sin)
            if index in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[len(deep)]
                deep.append(merger(hidden.flatten(0, 1)).unflatten(0, (batch, -1)))
        return visual.merger(hidden.flatten(0, 1)).unflatten(0, (batch, -1)), deep

    def decode(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        visual: torch.Tensor,
        deep: list[torch.Tensor],
        starts: Sequence[int],
        supervised: SupervisedHead | None = None,
    ) -> torch.Tensor:
        """Run the decoder's layers.

        Args:
            ids: Token ids ``[B, T]``.
            positions: M-RoPE positions ``[3, B, T]``.
            mask: ``[B, 1, T, T]``, true where a token may attend.
            visual: Visual tokens ``[B * P, N/4, hidden]``, the P images of a row one after the other.
            deep: DeepStack features, each in the shape of ``visual``.
            starts: Index of each image's first visual token in a row.
            supervised: Receives the scores of the supervised head and the hidden states before its layer.

        Returns:
            Hidden states ``[B, T, hidden]`` after the final norm.
        """
        language = self.model.model.language_model
        hidden = _placed(language.embed_tokens(ids), visual, starts, add=False)
        rotary = language.rotary_emb(hidden, positions)
        for index, layer in enumerate(language.layers):
            supervised_here = supervised if index == SUPERVISED_LAYER else None
            if supervised_here:
                supervised_here.inputs = hidden
            hidden = layer(hidden, position_embeddings=rotary, attention_mask=mask, supervised=supervised_here)
            if index < len(deep):
                hidden = _placed(hidden, deep[index], starts, add=True)
        return language.norm(hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of selected hidden states."""
        return self.model.lm_head(hidden)


def _placed(hidden: torch.Tensor, visual: torch.Tensor, starts: Sequence[int], *, add: bool) -> torch.Tensor:
    """Replace the tokens at ``starts`` in ``hidden [B, T, hidden]`` by visual rows, or add the rows to them."""
    rows = visual.unflatten(0, (-1, len(starts))).to(hidden.dtype)
    pieces, end = [], 0
    for number, start in enumerate(starts):
        after = start + rows.shape[2]
        placed = rows[:, number] + hidden[:, start:after] if add else rows[:, number]
        pieces += [hidden[:, end:start], placed]
        end = after
    return torch.cat([*pieces, hidden[:, end:]], 1)


def vision_block(block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """One vision block on a batch ``[B, N, hidden]``."""
    attention = block.attn
    batch, length, _ = hidden.shape
    qkv = attention.qkv(block.norm1(hidden)).view(batch, length, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = (x * cos + rotate_half(x) * sin for x in (query, key))
    mixed = attend(query.to(value.dtype), key.to(value.dtype), value, None)
    hidden = hidden + attention.proj(mixed.flatten(2))
    return hidden + block.mlp(block.norm2(hidden))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention by plain matrix products, ``[B, heads, T, D]`` to ``[B, T, heads, D]``.

    With bfloat16 on a CPU and short sequences, forward and backward passes take half the time of the fused kernel.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9 if scores.dtype == torch.float32 else -1e30)
    return (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2)


def text_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    supervised: SupervisedHead | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """``attend`` with the signature that transformers calls."""
    if supervised:
        scores = (query[:, 0] * query.shape[-1] ** -0.5) @ key[:, 0].transpose(1, 2)
        supervised.scores = scores.float().masked_fill(~attention_mask[:, 0], -1e9)
    groups = module.num_key_value_groups
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    return attend(query.to(value.dtype), key.to(value.dtype), value, attention_mask), None


ALL_ATTENTION_FUNCTIONS.register("plain", text_attention)
