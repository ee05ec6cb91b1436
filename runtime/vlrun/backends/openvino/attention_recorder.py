"""The ``AttentionRecorder`` of the CPU: queries are an extra output of the decoder, keys come from the KV cache."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.device import Device
from vlrun.backends.openvino.hints import is_cpu
from vlrun.backends.openvino.key_layout import key_layout
from vlrun.errors import OptionError
from vlrun.types.arrays import Bytes, FloatArray

QUERIES = "recorded_queries"
"""The extra output: queries of the recorded layers, ``[rows, L * heads * head_dim]``."""


def recorded_layers(layers: int) -> tuple[int, ...]:
    """Return the layers whose attention is recorded: an eighth of them, from the middle on.

    The first layers combine neighbouring tokens and the last ones choose words; between them the answer attends to the
    image. Of 28 layers these are 14, 15 and 16; of the embedded model's 5 it is 2, the layer that was trained to attend
    to the objects of an answer.
    """
    return tuple(range(layers // 2, layers // 2 + max(1, layers // 8)))


def add_query_output(model: ov.Model, device: Device, layers: int) -> tuple[int, ...]:
    """Add an output to a PagedAttention model: the normed and rotated queries of the recorded layers at ``logit_rows``.

    A layer is identified by the cache that its attention reads.

    Returns:
        The recorded layers; none, and the model unchanged, if the device or the graph does not support it.
    """
    if not is_cpu(device.hints.device):
        return ()
    attentions = {
        name: node
        for node in model.get_ops()
        if node.get_type_name() == "PagedAttentionExtension"
        for name in node.input_value(3).get_names()
    }
    recorded = recorded_layers(layers)
    names = [f"key_cache.{layer}" for layer in recorded]
    if not attentions.keys() >= set(names):
        return ()
    rows = model.input("logit_rows")
    queries = [opset13.gather(attentions[name].input_value(0), rows, np.int64(0)) for name in names]
    output = opset13.concat(queries, axis=1).output(0)
    output.set_names({QUERIES})
    model.add_outputs([output])
    return recorded


class OpenVINOAttentionRecorder:
    """Reads queries and keys of the recorded layers.

    Args:
        compiled: The compiled decoder.
        request: The decoder's infer request.
        lock: Held while the decoder runs.
        keys: Key cache ``[blocks, bytes]`` by recorded layer.
        block_size: Tokens in a block.
        head_dim: Size of a head.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        request: ov.InferRequest,
        lock: threading.Lock,
        keys: Mapping[int, Bytes],
        block_size: int,
        head_dim: int,
    ) -> None:
        self._request = request
        self._lock = lock
        self._keys = keys
        self._block_size = block_size
        self._head_dim = head_dim
        ports = [compiled.input(f"key_cache.{layer}") for layer in keys]
        self._element_type = ports[0].get_element_type().get_type_name()
        shapes = [[size.get_length() for size in list(port.get_partial_shape())[1:]] for port in ports]
        self.layouts = [key_layout(self._element_type, shape, block_size, head_dim) for shape in shapes]

    def check(self) -> None:
        """Raise OptionError if the layout of the KV cache is unknown."""
        if None in self.layouts:
            raise OptionError(
                f"heat maps need a KV cache in u8, f16, bf16 or f32 in a known layout; this one is {self._element_type}"
            )

    def queries(self, start: int, end: int) -> FloatArray:
        """Return the queries of rows ``start .. end`` of the last pass, ``[rows, L, heads, head_dim]``.

        The caller holds the lock.
        """
        rows: FloatArray = self._request.get_tensor(QUERIES).data[start:end].copy()
        return rows.reshape(end - start, len(self._keys), -1, self._head_dim)

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """Return the keys of the first ``tokens`` tokens in ``blocks``, ``[L, tokens, kv_heads, head_dim]``."""
        used = list(blocks[: -(-tokens // self._block_size)])
        with self._lock:
            cells = [keys[used] for keys in self._keys.values()]
        layouts = (layout for layout in self.layouts if layout)
        return np.stack([layout.read(held)[:tokens] for layout, held in zip(layouts, cells, strict=True)])
