"""The vision encoder as one ONNX graph. Ports and computation are those of ``vision_graph``, with fused operators."""

from __future__ import annotations

from onnx import TensorProto

from vlrun.errors import CheckpointError
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import VISION_PREFIX
from vlrun_export.onnx_format.graph_builder import MICROSOFT, GraphBuilder
from vlrun_export.onnx_format.linear import Weights
from vlrun_export.progress import Report
from vlrun_export.quantize import Precision

EPSILON = 1e-6
"""Of all LayerNorms; transformers has it in the code, not in the configuration."""


def build_vision(builder: GraphBuilder, checkpoint: Checkpoint, precision: Precision, report: Report) -> None:
    """Add the checkpoint's vision encoder to an empty graph. Raises CheckpointError."""
    if checkpoint.config.vision_config.hidden_act != "gelu_pytorch_tanh":
        raise CheckpointError(
            f"the activation of the vision encoder of '{checkpoint.folder}' is "
            f"{checkpoint.config.vision_config.hidden_act}, but only gelu_pytorch_tanh can be exported to ONNX: use "
            "--format openvino"
        )
    weights = Weights(builder, checkpoint, precision, VISION_PREFIX, report)
    _VisionBuilder(builder, checkpoint, weights).build()


class _VisionBuilder:
    """Adds the nodes of the vision encoder."""

    def __init__(self, builder: GraphBuilder, checkpoint: Checkpoint, weights: Weights) -> None:
        self._graph, self._weights = builder, weights
        self._config = checkpoint.config.vision_config
        self._out_hidden = checkpoint.config.text_config.hidden_size

    def build(self) -> None:
        """Add inputs, blocks, mergers and the output."""
        graph, config = self._graph, self._config
        self._add_inputs()
        self._add_rotary()
        hidden = graph.node("Add", [self._weights.linear("patches", ["patch_embed.proj"]), self._positions()])
        levels = {block: level for level, block in enumerate(config.deepstack_visual_indexes)}
        merged = {}
        normed = self._norm(hidden, "blocks.0.norm1")
        for index in range(config.depth):
            name = f"blocks.{index}"
            normed, hidden = self._add_and_norm(hidden, self._attention(normed, name), f"{name}.norm2")
            raised = graph.node("Gelu", [self._weights.linear(normed, [f"{name}.mlp.linear_fc1"])], approximate="tanh")
            mixed = self._weights.linear(raised, [f"{name}.mlp.linear_fc2"])
            if index + 1 < config.depth:
                normed, hidden = self._add_and_norm(hidden, mixed, f"blocks.{index + 1}.norm1")
            else:
                hidden = graph.node("Add", [hidden, mixed])
            if index in levels:
                level = levels[index]
                grouped = self._grouped(hidden)
                name = f"deepstack_merger_list.{level}"
                merged[level] = self._merger(self._norm(grouped, f"{name}.norm"), name)
        embeddings = self._merger(self._grouped(self._norm(hidden, "merger.norm")), "merger")
        rows = [embeddings, *(merged[level] for level in sorted(merged))]
        stacked = [graph.node("Unsqueeze", [row, graph.integers(0)]) for row in rows]
        graph.node("Concat", stacked, ["features"], axis=0)
        graph.output("features", [len(rows), "M", self._out_hidden])

    def _add_inputs(self) -> None:
        graph, config = self._graph, self._config
        head_dim = config.hidden_size // config.num_heads
        graph.input("patches", ["N", config.in_channels * config.temporal_patch_size * config.patch_size**2])
        graph.input("position_indices", [4, "N"], TensorProto.INT64)
        graph.input("position_weights", [4, "N"])
        graph.input("rotary_cos", ["N", head_dim])
        graph.input("rotary_sin", ["N", head_dim])

    def _add_rotary(self) -> None:
        """Add the halves of cos and sin that differ, and the row of each patch ``[1, N]``."""
        graph, half = self._graph, self._config.hidden_size // self._config.num_heads // 2
        for name in ("cos", "sin"):
            bounds = [graph.integers(0), graph.integers(half), graph.integers(1)]
            graph.node("Slice", [f"rotary_{name}", *bounds], [f"rotary.{name}"])
        flat = graph.node("Slice", ["position_indices", graph.integers(0), graph.integers(1), graph.integers(0)])
        ones = graph.node("Add", [graph.node("Mul", [flat, graph.integers(0)]), graph.integers(1)])
        counted = graph.node("CumSum", [ones, graph.integers(1)])
        graph.node("Sub", [counted, graph.integers(1)], ["rotary.rows"])

    def _positions(self) -> str:
        """Interpolate the learned positions ``[N, hidden]``."""
        graph = self._graph
        corners = graph.node("Gather", [self._weights.table("pos_embed.weight"), "position_indices"])
        factors = graph.node("Unsqueeze", ["position_weights", graph.integers(2)])
        return graph.node("ReduceSum", [graph.node("Mul", [corners, factors]), graph.integers(0)], keepdims=0)

    def _attention(self, normed: str, name: str) -> str:
        graph, config = self._graph, self._config
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        joined = graph.node("Unsqueeze", [self._weights.linear(normed, [f"{name}.attn.qkv"]), graph.integers(0)])
        graph.node("Split", [joined, graph.integers(*[config.hidden_size] * 3)], parts, axis=2)
        rotated = [
            graph.node("RotaryEmbedding", [part, "rotary.rows", "rotary.cos", "rotary.sin"], domain=MICROSOFT)
            for part in parts[:2]
        ]
        mixed = graph.node("MultiHeadAttention", [*rotated, parts[2]], domain=MICROSOFT, num_heads=config.num_heads)
        return self._weights.linear(graph.node("Squeeze", [mixed, graph.integers(0)]), [f"{name}.attn.proj"])

    def _merger(self, grouped: str, name: str) -> str:
        raised = self._graph.node("Gelu", [self._weights.linear(grouped, [f"{name}.linear_fc1"])])
        return self._weights.linear(raised, [f"{name}.linear_fc2"])

    def _grouped(self, hidden: str) -> str:
        """Join the patches of each merge block."""
        width = self._config.hidden_size * self._config.spatial_merge_size**2
        return self._graph.node("Reshape", [hidden, self._graph.integers(-1, width)])

    def _norm(self, hidden: str, name: str) -> str:
        vectors = [self._weights.vector(f"{name}.{part}") for part in ("weight", "bias")]
        return self._graph.node("LayerNormalization", [hidden, *vectors], axis=-1, epsilon=EPSILON)

    def _add_and_norm(self, hidden: str, added: str, name: str) -> tuple[str, str]:
        """Return the norm of a sum, and the sum."""
        vectors = [self._weights.vector(f"{name}.{part}") for part in ("weight", "bias")]
        outputs = [f"{name}.normed", "", "", f"{name}.sum"]
        inputs = [hidden, added, *vectors]
        normed = self._graph.node("SkipLayerNormalization", inputs, outputs, domain=MICROSOFT, epsilon=EPSILON)
        return normed, outputs[3]
