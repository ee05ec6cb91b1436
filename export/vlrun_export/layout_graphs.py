"""The graphs of each layout: what builds them, and which files they go to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from vlrun.layout import OPTIMUM, VLRUN
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.families.qwen3_vl.decoder_graph import build_decoder
from vlrun_export.families.qwen3_vl.optimum_language import build_language, build_text_embeddings
from vlrun_export.families.qwen3_vl.optimum_vision import build_merger, build_patch_embedding, build_positions
from vlrun_export.families.qwen3_vl.vision_graph import build_vision
from vlrun_export.tracing import TracedGraph


@dataclass(frozen=True)
class GraphRecipe:
    """How a graph is made.

    Attributes:
        title: Its name for messages.
        part: The half of the model whose precision it has.
        graph: Its name in the layout.
        build: Traces it from a checkpoint, with the weights in a dtype.
    """

    title: str
    part: Literal["vision", "decoder"]
    graph: str
    build: Callable[[Checkpoint, torch.dtype | None], TracedGraph]


_MERGER, _PATCHES, _POSITIONS = OPTIMUM.vision
_LANGUAGE, _EMBEDDINGS = OPTIMUM.decoder

RECIPES: Mapping[str, tuple[GraphRecipe, ...]] = {
    VLRUN.name: (
        GraphRecipe("vision encoder", "vision", VLRUN.vision[0], build_vision),
        GraphRecipe("decoder", "decoder", VLRUN.decoder[0], build_decoder),
    ),
    OPTIMUM.name: (
        GraphRecipe("patch embedding", "vision", _PATCHES, build_patch_embedding),
        GraphRecipe("positions", "vision", _POSITIONS, build_positions),
        GraphRecipe("vision encoder", "vision", _MERGER, build_merger),
        GraphRecipe("text embeddings", "decoder", _EMBEDDINGS, build_text_embeddings),
        GraphRecipe("language model", "decoder", _LANGUAGE, build_language),
    ),
}
"""By layout. The largest graph comes last."""
