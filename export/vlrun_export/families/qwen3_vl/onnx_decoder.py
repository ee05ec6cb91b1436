"""The decoder as one ONNX graph: token ids, visual features and KV cache in, logits and KV cache out.

Inputs (T tokens of B sequences, each at most L of them; V visual tokens among them, S logit rows, D DeepStack levels,
C tokens of room in each cache)::

    input_ids              [T]                 i64
    position_ids           [3, T]              i64  M-RoPE: time, height, width
    visual_features        [1 + D, V, hidden]  f32  row 0: embeddings, rows 1..D: DeepStack
    visual_rows            [V, 1]              i64  which tokens are visual
    logit_rows             [S]                 i64  which tokens need logits
    padded_rows            [B, L]              i64  tokens of each sequence; anything after its last one
    token_rows             [T]                 i64  where in B * L each token is
    sequence_tokens        [B]                 i32  tokens of each sequence in this pass; may be 0
    last_tokens            [B]                 i32  tokens in its cache after this pass, minus 1
    max_tokens             []                  i32  upper limit of these numbers, plus 1
    past_key_values.N.key, past_key_values.N.value  [B, kv_heads, C, head_dim]  f32, for each layer N

Outputs: ``logits [S, vocab_rows]`` f32 and ``present.N.key``, ``present.N.value``. A cache that is bound to the same
memory as input and output is extended in place.

Tokens lie on one axis, without padding, for all but the attention: so a pass may mix prompts and single tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from vlrun.errors import CheckpointError
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import HEAD, TEXT_PREFIX
from vlrun_export.onnx_format.graph_builder import MICROSOFT, GraphBuilder, Shape
from vlrun_export.onnx_format.linear import Weights
from vlrun_export.progress import Report
from vlrun_export.quantize import Precision
from vlrun_export.stateful import cache_names

I32, I64 = TensorProto.INT32, TensorProto.INT64


def build_decoder(builder: GraphBuilder, checkpoint: Checkpoint, precision: Precision, report: Report) -> None:
    """Add the checkpoint's decoder to an empty graph. Raises CheckpointError."""
    if checkpoint.config.text_config.hidden_act != "silu":
        raise CheckpointError(
            f"the activation of '{checkpoint.folder}' is {checkpoint.config.text_config.hidden_act}, but only silu can "
            "be exported to ONNX: use --format openvino"
        )
    weights = Weights(builder, checkpoint, precision, TEXT_PREFIX, report)
    _DecoderBuilder(builder, checkpoint, weights).build()


class _DecoderBuilder:
    """Adds the nodes of the decoder."""

    def __init__(self, builder: GraphBuilder, checkpoint: Checkpoint, weights: Weights) -> None:
        self._graph, self._weights = builder, weights
        self._config = checkpoint.config.text_config
        self._levels = checkpoint.deepstack
        self._caches = cache_names(self._config.num_hidden_layers)
        self._tied = checkpoint.tied
        self._epsilon = float(self._config.rms_norm_eps)

    def build(self) -> None:
        """Add inputs, layers and outputs."""
        graph, config = self._graph, self._config
        self._add_inputs()
        self._add_angles()
        embedded = self._weights.embedding("input_ids", "embed_tokens", tied=self._tied)
        hidden = graph.node("ScatterND", [embedded, "visual_rows", self._feature(0)])
        normed = self._norm(hidden, "layers.0.input_layernorm.weight")
        for layer in range(config.num_hidden_layers):
            name = f"layers.{layer}"
            attended = self._attention(normed, layer)
            normed, hidden = self._add_and_norm(hidden, attended, f"{name}.post_attention_layernorm.weight")
            mixed = self._mlp(normed, f"{name}.mlp")
            last = layer + 1 == config.num_hidden_layers
            following = "norm.weight" if last else f"layers.{layer + 1}.input_layernorm.weight"
            if layer < self._levels or last:
                hidden = graph.node("Add", [hidden, mixed])
                if layer < self._levels:
                    hidden = graph.node("ScatterND", [hidden, "visual_rows", self._feature(layer + 1)], reduction="add")
                rows = graph.node("Gather", [hidden, "logit_rows"]) if last else hidden
                normed = self._norm(rows, following)
            else:
                normed, hidden = self._add_and_norm(hidden, mixed, following)
        head = "embed_tokens" if self._tied else HEAD.removesuffix(".weight")
        logits = self._weights.linear(normed, [head], as_int8=True)
        graph.node("Identity", [logits], ["logits"])
        graph.output("logits", ["S", config.vocab_size])

    def _add_inputs(self) -> None:
        graph, config = self._graph, self._config
        tokens: tuple[tuple[str, Shape, int], ...] = (
            ("input_ids", ["T"], I64),
            ("position_ids", [3, "T"], I64),
            ("visual_features", [1 + self._levels, "V", config.hidden_size], TensorProto.FLOAT),
            ("visual_rows", ["V", 1], I64),
            ("logit_rows", ["S"], I64),
            ("padded_rows", ["B", "L"], I64),
            ("token_rows", ["T"], I64),
            ("sequence_tokens", ["B"], I32),
            ("last_tokens", ["B"], I32),
            ("max_tokens", [], I32),
        )
        for name, shape, kind in tokens:
            graph.input(name, shape, kind)
        cache = ["B", config.num_key_value_heads, "C", config.head_dim]
        for past, present in self._caches.items():
            graph.input(past, cache)
            graph.output(present, cache)

    def _add_angles(self) -> None:
        """Add cos and sin ``[T, head_dim / 2]`` of the interleaved M-RoPE."""
        graph = self._graph
        frequencies, axes, scaling = _frequencies(self._config)
        chosen = graph.node("Gather", ["position_ids", graph.constant("rotary.axes", axes)])
        positions = graph.node("Cast", [graph.node("Transpose", [chosen], perm=[1, 0])], to=TensorProto.FLOAT)
        angles = graph.node("Mul", [positions, graph.constant("rotary.frequencies", frequencies)])
        for function, name in (("Cos", "rotary.cos"), ("Sin", "rotary.sin")):
            if scaling == 1:
                graph.node(function, [angles], [name])
            else:
                factor = graph.constant("rotary.scaling", np.array([scaling], np.float32))
                graph.node("Mul", [graph.node(function, [angles]), factor], [name])

    def _attention(self, normed: str, layer: int) -> str:
        graph, config, name = self._graph, self._config, f"layers.{layer}.self_attn"
        heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        joined = self._weights.linear(normed, [f"{name}.{part}_proj" for part in "qkv"])
        padded = graph.node("Gather", [joined, "padded_rows"])
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        sizes = graph.integers(heads * width, kv_heads * width, kv_heads * width)
        graph.node("Split", [padded, sizes], parts, axis=2)
        query = self._rotated(parts[0], f"{name}.q_norm.weight", heads)
        key = self._rotated(parts[1], f"{name}.k_norm.weight", kv_heads)
        past, present = zip(*list(self._caches.items())[2 * layer : 2 * layer + 2], strict=True)
        attended = graph.node(
            "GroupQueryAttention",
            [query, key, parts[2], *past, "last_tokens", "max_tokens", *[""] * 9, "sequence_tokens"],
            [f"{name}.attended", *present],
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=kv_heads,
        )
        flat = graph.node("Reshape", [attended, graph.integers(-1, heads * width)])
        return self._weights.linear(graph.node("Gather", [flat, "token_rows"]), [f"{name}.o_proj"])

    def _rotated(self, hidden: str, norm: str, heads: int) -> str:
        """Norm and rotate each head of ``[B, L, heads * head_dim]``."""
        graph, width = self._graph, self._config.head_dim
        split = graph.node("Reshape", [hidden, graph.integers(0, 0, heads, width)])
        joined = graph.node("Reshape", [self._norm(split, norm), graph.integers(0, 0, heads * width)])
        return graph.node("RotaryEmbedding", [joined, "padded_rows", "rotary.cos", "rotary.sin"], domain=MICROSOFT)

    def _mlp(self, normed: str, name: str) -> str:
        graph, weights = self._graph, self._weights
        gate = graph.node("QuickGelu", [weights.linear(normed, [f"{name}.gate_proj"])], domain=MICROSOFT, alpha=1.0)
        up = weights.linear(normed, [f"{name}.up_proj"])
        return weights.linear(graph.node("Mul", [gate, up]), [f"{name}.down_proj"])

    def _norm(self, hidden: str, weight: str) -> str:
        return self._graph.node(
            "RMSNormalization", [hidden, self._weights.vector(weight)], axis=-1, epsilon=self._epsilon
        )

    def _add_and_norm(self, hidden: str, added: str, weight: str) -> tuple[str, str]:
        """Return the norm of a sum, and the sum."""
        graph, total = self._graph, f"{weight}.sum"
        normed = graph.node(
            "SkipSimplifiedLayerNormalization",
            [hidden, added, self._weights.vector(weight)],
            [f"{weight}.normed", "", "", total],
            domain=MICROSOFT,
            epsilon=self._epsilon,
        )
        return normed, total

    def _feature(self, level: int) -> str:
        index = self._graph.constant(f"level.{level}", np.array(level, np.int64))
        return self._graph.node("Gather", ["visual_features", index])


def _frequencies(config: object) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], float]:
    """Return rotary frequencies, which axis of the positions each uses, and the factor of cos and sin."""
    rotary = Qwen3VLTextRotaryEmbedding(config)
    axes = torch.arange(3.0)[:, None, None, None].expand(3, 1, 1, len(rotary.inv_freq)).clone()
    chosen = rotary.apply_interleaved_mrope(axes, rotary.mrope_section)[0, 0]
    return rotary.inv_freq.numpy(), chosen.numpy().astype(np.int64), float(rotary.attention_scaling)
