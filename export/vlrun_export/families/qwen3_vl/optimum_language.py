"""The decoder in optimum-intel's layout: text embeddings, and a stateful language model that takes them.

Inputs of the language model (B sequences, T tokens, V visual tokens, D DeepStack levels)::

    attention_mask           [B, past + T]   i64
    position_ids             [3, B, T]       i64
    inputs_embeds            [B, T, hidden]  f32
    visual_pos_masks         [B, T]          bool
    deepstack_visual_embeds  [D, V, hidden]  f32
    beam_idx                 [B]             i32

Output: ``logits [B, T, vocab_rows]`` f32.
"""

from __future__ import annotations

import torch

from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import TEXT_PREFIX
from vlrun_export.families.qwen3_vl.decoder_graph import (
    BATCH,
    LENGTH,
    TextGraph,
    load_text,
    position_ports,
    run_layers,
    trace_stateful,
)
from vlrun_export.tracing import Port, TracedGraph, trace


class LanguageGraph(TextGraph):
    """Layers with DeepStack, norm and head in one forward pass."""

    def forward(
        self,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        inputs_embeds: torch.Tensor,
        visual_pos_masks: torch.Tensor,
        deepstack_visual_embeds: torch.Tensor,
        *past: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return logits ``[B, T, vocab_rows]``, then keys and values of each layer, joined with the past."""
        visual = visual_pos_masks.reshape(-1)
        row = torch.clamp(torch.cumsum(visual.long(), 0) - 1, min=0)  # the DeepStack row of each visual token
        mask = visual.float().reshape(*inputs_embeds.shape[:2], 1)
        deepstack = [
            deepstack_visual_embeds[level].index_select(0, row).reshape(inputs_embeds.shape) * mask
            for level in range(self.deepstack)
        ]
        hidden, caches = run_layers(self.text, inputs_embeds, position_ids, attention_mask, deepstack, past)
        return self.head(self.text.norm(hidden)), *caches


def build_language(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the language model. ``matrices``: dtype of the weight matrices; None keeps the checkpoint's."""
    config, levels = checkpoint.config.text_config, checkpoint.deepstack
    text, head = load_text(checkpoint, matrices)
    del text.embed_tokens
    ports = [
        *position_ports(),
        Port("inputs_embeds", (-1, -1, config.hidden_size), torch.zeros(BATCH, LENGTH, config.hidden_size)),
        Port("visual_pos_masks", (-1, -1), torch.ones(BATCH, LENGTH, dtype=torch.bool)),
        Port(
            "deepstack_visual_embeds",
            (-1, -1, config.hidden_size),
            torch.zeros(levels, BATCH * LENGTH, config.hidden_size),
        ),
    ]
    return trace_stateful(LanguageGraph(text, head, levels), config, ports, "inputs_embeds")


def build_text_embeddings(checkpoint: Checkpoint, matrices: torch.dtype | None) -> TracedGraph:
    """Trace the embedding: ``input [B, T]`` i64 to ``inputs_embeds [B, T, hidden]``."""
    config = checkpoint.config.text_config
    with torch.device("meta"):
        embedding = torch.nn.Embedding(config.vocab_size, config.hidden_size)
    checkpoint.load(embedding, f"{TEXT_PREFIX}embed_tokens.", matrices)
    graph = torch.nn.Sequential(embedding)
    return trace(graph, [Port("input", (-1, -1), torch.ones(BATCH, LENGTH, dtype=torch.int64))], ["inputs_embeds"])
