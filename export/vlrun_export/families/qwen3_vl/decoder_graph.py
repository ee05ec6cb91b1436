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

from collections.abc import Sequence
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
from vlrun_export.stateful import cache_names, make_stateful
from vlrun_export.tracing import Port, TracedGraph, trace

CACHE_ARGUMENT = "cache" if "cache" in signature(Qwen3VLTextDecoderLayer.forward).parameters else "past_key_values"
"""transformers 5 renamed it."""
BATCH, PAST, LENGTH = 2, 3, 4
"""Sequences, past tokens and new tokens of the example inputs."""


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


class TextGraph(torch.nn.Module):
    """Transformers' text model and head. ``deepstack``: the number of levels."""

    def __init__(self, text: Qwen3VLTextModel, head: torch.nn.Linear, deepstack: int) -> None:
        super().__init__()
        self.text = text
        self.head = head
        self.deepstack = deepstack


class DecoderGraph(TextGraph):
    """Embedding, visual features, layers with DeepStack, norm and head in one forward pass."""

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
        embedded = torch.where(visual_mask > 0, visual_features[0], self.text.embed_tokens(input_ids))
        deepstack = [visual_features[1 + level] * visual_mask for level in range(self.deepstack)]
        hidden, caches = run_layers(self.text, embedded, position_ids, attention_mask, deepstack, past)
        rows = hidden.reshape(-1, hidden.shape[-1]).index_select(0, logit_rows)
        return self.head(self.text.norm(rows)), *caches


def run_layers(
    text: Qwen3VLTextModel,
    hidden: torch.Tensor,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    deepstack: Sequence[torch.Tensor],
    past: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run all layers on hidden states ``[B, T, hidden]``. ``deepstack``: what the first layers add, of this shape.

    Returns:
        The hidden states, and keys and values of each layer, joined with the past.
    """
    cache = JoinedCache(list(zip(past[::2], past[1::2], strict=True)))
    angles = text.rotary_emb(hidden, position_ids)
    mask = _causal_mask(attention_mask, past[0].shape[2], hidden.shape[1])
    for index, layer in enumerate(text.layers):
        hidden = layer(hidden, position_embeddings=angles, attention_mask=mask, **{CACHE_ARGUMENT: cache})
        if index < len(deepstack):
            hidden = hidden + deepstack[index]
    return hidden, [tensor for layer in cache.layers for tensor in layer]


def build_decoder(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the checkpoint's decoder. ``matrices``: dtype of the weight matrices; None keeps the checkpoint's."""
    graph = DecoderGraph(*load_text(checkpoint, matrices), deepstack=checkpoint.deepstack)
    ports = _ports(checkpoint.config.text_config, checkpoint.deepstack)
    return trace_stateful(graph, checkpoint.config.text_config, ports, "input_ids")


def trace_stateful(graph: TextGraph, config: Qwen3VLTextConfig, ports: Sequence[Port], batched: str) -> TracedGraph:
    """Trace a graph that returns logits and caches, and move the caches to its state.

    Args:
        graph: The graph.
        config: The configuration of its layers.
        ports: Its inputs, without the caches.
        batched: Name of an input whose first dimension is B.
    """
    caches = cache_names(config.num_hidden_layers)
    traced = trace(graph, [*ports, *_cache_ports(config)], ["logits", *caches.values()])
    make_stateful(traced.model, caches, batched)
    return traced


def _cache_ports(config: Qwen3VLTextConfig) -> list[Port]:
    """Return the inputs of the cache, ``[B, kv_heads, past, head_dim]``."""
    heads, width = config.num_key_value_heads, config.head_dim
    example = torch.zeros(BATCH, heads, PAST, width)
    return [Port(name, (-1, heads, -1, width), example.clone()) for name in cache_names(config.num_hidden_layers)]


def load_text(checkpoint: Checkpoint, matrices: torch.dtype | None) -> tuple[Qwen3VLTextModel, torch.nn.Linear]:
    """Return transformers' text model and the head with the checkpoint's weights."""
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


def position_ports() -> list[Port]:
    """Return positions and attention mask."""
    positions = torch.ones(3, BATCH, LENGTH, dtype=torch.int64)
    mask = torch.ones(BATCH, PAST + LENGTH, dtype=torch.int64)
    return [Port("position_ids", (3, -1, -1), positions), Port("attention_mask", (-1, -1), mask)]


def _ports(config: Qwen3VLTextConfig, levels: int) -> list[Port]:
    features = torch.zeros(1 + levels, BATCH, LENGTH, config.hidden_size)
    return [
        Port("input_ids", (-1, -1), torch.ones(BATCH, LENGTH, dtype=torch.int64)),
        *position_ports(),
        Port("visual_features", (1 + levels, -1, -1, config.hidden_size), features),
        Port("visual_mask", (-1, -1, 1), torch.zeros(BATCH, LENGTH, 1)),
        Port("logit_rows", (-1,), torch.arange(3)),
    ]
