"""The decoder as one stateful OpenVINO model: token ids and visual features in, logits out.

Inputs before the PagedAttention transformation (B sequences, T tokens, S logit rows, D DeepStack levels)::

    input_ids        [B, T]               i64
    position_ids     [3, B, T]            i64   M-RoPE: time, height, width
    attention_mask   [B, past + T]        i64
    visual_features  [1 + D, B, T, hidden] f32  row 0: embeddings, rows 1..D: DeepStack; zero at text
    visual_mask      [B, T, 1]            f32   1 at visual tokens, 0 at text
    logit_rows       [S]                  i64   which of the B * T tokens need logits
    beam_idx         [B]                  i32

Output: ``logits [S, vocab_rows]`` f32.

``openvino._offline_transformations.paged_attention_transformation`` moves the tokens to the batch axis; then the
inputs are ``input_ids [T]``, ``position_ids [3, T]``, ``visual_features [1 + D, T, 1, hidden]``, ``visual_mask [T, 1,
1]``, ``logit_rows [S]`` and the block tables and caches of PagedAttention.

Layers, norms and rotary angles are transformers' modules (4.57 to 5.24, ``modeling_qwen3_vl.py``), called in the order
of ``Qwen3VLTextModel.forward``.
"""

from __future__ import annotations

from inspect import signature

import torch
from transformers import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextDecoderLayer,
    Qwen3VLTextModel,
    Qwen3VLTextRotaryEmbedding,
)

from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import HEAD, TEXT_PREFIX
from vlrun_export.stateful import make_stateful
from vlrun_export.tracing import Port, TracedGraph, trace

CACHE_ARGUMENT = "cache" if "cache" in signature(Qwen3VLTextDecoderLayer.forward).parameters else "past_key_values"
"""transformers 5 renamed it."""


class JoinedCache:
    """A cache for transformers' attention that joins past and new keys and values.

    ``DynamicCache`` creates its layers lazily, which cannot be traced.
    """

    def __init__(self, past: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.layers = past

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values ``[B, kv_heads, T, head_dim]`` and return all of the layer."""
        past_key, past_value = self.layers[layer]
        self.layers[layer] = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        return self.layers[layer]


class DecoderGraph(torch.nn.Module):
    """Embedding, visual features, layers with DeepStack, norm and head in one forward pass."""

    def __init__(self, text: Qwen3VLTextModel, head: torch.nn.Linear, deepstack: int) -> None:
        super().__init__()
        self.text = text
        self.head = head
        self.deepstack = deepstack

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        visual_features: torch.Tensor,
        visual_mask: torch.Tensor,
        logit_rows: torch.Tensor,
        *past: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return logits ``[S, vocab_rows]``, then keys and values of each layer, joined with the past."""
        cache = JoinedCache(list(zip(past[::2], past[1::2], strict=True)))
        hidden = torch.where(visual_mask > 0, visual_features[0], self.text.embed_tokens(input_ids))
        angles = self.text.rotary_emb(hidden, position_ids)
        mask = _causal_mask(attention_mask, past[0].shape[2], input_ids.shape[1])
        for index, layer in enumerate(self.text.layers):
            hidden = layer(hidden, position_embeddings=angles, attention_mask=mask, **{CACHE_ARGUMENT: cache})
            if index < self.deepstack:
                hidden = hidden + visual_features[index + 1] * visual_mask
        rows = hidden.reshape(-1, hidden.shape[-1]).index_select(0, logit_rows)
        logits = self.head(self.text.norm(rows))
        return logits, *(tensor for layer in cache.layers for tensor in layer)


def build_decoder(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the checkpoint's decoder. ``matrices``: dtype of the weight matrices; None keeps the checkpoint's."""
    config = checkpoint.config.text_config
    levels = len(checkpoint.config.vision_config.deepstack_visual_indexes)
    graph = DecoderGraph(*_load(checkpoint, matrices), deepstack=levels)
    caches = {
        f"past_key_values.{index}.{part}": f"present.{index}.{part}"
        for index in range(config.num_hidden_layers)
        for part in ("key", "value")
    }
    traced = trace(graph, _ports(config, levels, list(caches)), ["logits", *caches.values()])
    make_stateful(traced.model, caches)
    return traced


def _load(checkpoint: Checkpoint, matrices: torch.dtype | None) -> tuple[Qwen3VLTextModel, torch.nn.Linear]:
    config = checkpoint.config.text_config
    with torch.device("meta"):
        text = Qwen3VLTextModel._from_config(config, attn_implementation="sdpa")
        head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    checkpoint.load(text, TEXT_PREFIX, matrices)
    text.rotary_emb = Qwen3VLTextRotaryEmbedding(config)  # its frequencies are computed, not stored
    if checkpoint.tied:
        head.weight = text.embed_tokens.weight
    else:
        checkpoint.load(head, HEAD.removesuffix("weight"), matrices)
    return text, head


def _causal_mask(attention_mask: torch.Tensor, past: int, length: int) -> torch.Tensor:
    """Return the additive mask ``[B, 1, T, past + T]``, which the PagedAttention transformation removes."""
    columns = torch.arange(attention_mask.shape[1])
    rows = torch.arange(length) + past
    allowed = (columns[None, :] <= rows[:, None])[None, None] & (attention_mask[:, None, None, :] > 0)
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)


def _ports(config: Qwen3VLTextConfig, levels: int, caches: list[str]) -> list[Port]:
    batch, past, length = 2, 3, 4
    ones = torch.ones(batch, length, dtype=torch.int64)
    features = torch.zeros(1 + levels, batch, length, config.hidden_size)
    ports = [
        Port("input_ids", (-1, -1), ones),
        Port("position_ids", (3, -1, -1), ones.expand(3, -1, -1).contiguous()),
        Port("attention_mask", (-1, -1), torch.ones(batch, past + length, dtype=torch.int64)),
        Port("visual_features", (1 + levels, -1, -1, config.hidden_size), features),
        Port("visual_mask", (-1, -1, 1), torch.zeros(batch, length, 1)),
        Port("logit_rows", (-1,), torch.arange(3)),
    ]
    heads, width = config.num_key_value_heads, config.head_dim
    return ports + [Port(name, (-1, heads, -1, width), torch.zeros(batch, heads, past, width)) for name in caches]
