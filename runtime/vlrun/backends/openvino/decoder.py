"""The language decoder on a device, under PagedAttention: the runtime owns the KV cache and hands it in.

``paged_attention_transformation`` turns the stateful IR into one whose cache is an input. Tokens of all sequences of a
call lie one behind the other on one axis; block tables say where each sequence's past is. Sizes and types of the cache
are read from the compiled ports, because every plugin lays it out in its own way. Knows tensors and block numbers; does
not know who owns a block, nor what a token means.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13
from openvino._offline_transformations import paged_attention_transformation

from vlrun.backends.openvino.device import Device, check_ports, run
from vlrun.backends.openvino.key_layout import KeyLayout, key_layout, watched_layers
from vlrun.backends.openvino.memory import MappedWeights
from vlrun.engine.backend import SequenceStep
from vlrun.errors import DamagedModel, DeviceError, OptionError
from vlrun.manifest import DECODER_BIN, DECODER_XML, TextDimensions
from vlrun.types.arrays import FloatArray, IntArray

WATCHED_QUERIES = "watched_queries"
"""The output that we add to the graph: queries of the watched layers, ``[rows, L * heads * head_dim]``."""


class Decoder:
    """The compiled decoder of a model folder with a KV cache of at most ``memory`` bytes and ``most_tokens`` tokens."""

    def __init__(
        self,
        device: Device,
        folder: Path,
        text: TextDimensions,
        deepstack: int,
        memory: int,
        most_tokens: int,
    ) -> None:
        model = device.read_model(folder / DECODER_XML)
        try:
            paged_attention_transformation(model)
        except RuntimeError as error:
            raise DamagedModel(f"'{DECODER_XML}' in '{folder}' is not a decoder that vlrun exported") from error
        self._watched = watched_layers(text.layers) if device.hints.device.split(".")[0] == "CPU" else ()
        if self._watched and not _give_out_queries(model, self._watched):
            self._watched = ()
        self._lock = threading.Lock()
        self._feature_rows = 1 + deepstack
        self._hidden = text.hidden
        self._head_dim = text.head_dim
        with MappedWeights(model, folder / DECODER_BIN):
            self._compiled = device.compile_model(model, folder / DECODER_BIN, device.hints.decoder_config())
            check_ports(self._compiled, _expected_ports(text, deepstack), f"'{DECODER_XML}' in '{folder}'")
            self._request = self._compiled.create_infer_request()
            caches = [f"{kind}_cache.{layer}" for layer in range(text.layers) for kind in ("key", "value")]
            self._make_cache(caches, memory, most_tokens)
            self._layouts = {layer: self._key_layout(layer) for layer in self._watched}
            self._warm_up()
        layout = [f"{self._compiled.input(name)}" for name in caches]
        self.name = f"{device.core.get_property(device.hints.device, 'FULL_DEVICE_NAME')} {ov.get_version()} {layout}"
        """The device and how it lays out the cache: blocks of one name mean the same."""

    def _make_cache(self, caches: Sequence[str], memory: int, most_tokens: int) -> None:
        """Give the cache ports memory. Raises OptionError if ``memory`` is too little for a block, or too much here."""
        self.block_size = self._port_shape("value_cache.0")[2]
        self.block_bytes = sum(self._block_bytes(name) for name in caches)
        self.blocks = min(memory // self.block_bytes, -(-most_tokens // self.block_size))
        if not self.blocks:
            raise OptionError(f"the KV cache needs at least {-(-self.block_bytes // 2**20)} MiB, one block of it")
        # The request does not keep its tensors' memory alive: this list does.
        try:
            self._cells = [self._allocate(name) for name in caches]
        except MemoryError:
            raise OptionError(f"a KV cache of {memory // 2**20} MiB cannot be had here: lower kv_memory") from None

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[FloatArray]:
        """Run the next tokens of several sequences in one call; writes their keys and values into their blocks.

        Returns the logits after the last ``rows`` tokens of each, ``[rows, vocab_rows]``. Raises Abandoned when
        ``stopped``.
        """
        with self._lock:
            run(self._request, self._inputs(steps), stopped)
            logits: FloatArray = self._request.get_output_tensor(0).data.copy()
            ends = np.cumsum([step.rows for step in steps])
            for step, end in zip(steps, ends, strict=True):
                if step.watch:
                    step.watch(self._queries(int(end) - step.rows, int(end)))
        return np.split(logits.reshape(int(ends[-1]), -1), ends[:-1])

    def read_blocks(self, blocks: Sequence[int]) -> npt.NDArray[np.uint8]:
        """A copy of what blocks hold in all layers, ``[len(blocks), block_bytes]``."""
        content = np.empty((len(blocks), self.block_bytes), np.uint8)
        start = 0
        with self._lock:
            for cells in self._cells:
                np.take(cells, list(blocks), axis=0, out=content[:, start : start + cells.shape[1]], mode="clip")
                start += cells.shape[1]
        return content

    def write_blocks(self, blocks: Sequence[int], content: npt.NDArray[np.uint8]) -> None:
        """Put back what ``read_blocks`` gave, into any blocks."""
        start = 0
        with self._lock:
            for cells in self._cells:
                cells[list(blocks)] = content[:, start : start + cells.shape[1]]
                start += cells.shape[1]

    def check_watch(self) -> None:
        """Raises OptionError if steps cannot be watched here, or keys not be read."""
        if not self._watched:
            raise OptionError("heat maps need the device CPU, and a graph whose attention can be told layer by layer")
        if None in self._layouts.values():
            stored = self._compiled.input(f"key_cache.{self._watched[0]}").get_element_type().get_type_name()
            raise OptionError(f"heat maps need a KV cache that vlrun can read, u8, f16, bf16 or f32: this is {stored}")

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """The keys of the first ``tokens`` tokens in ``blocks``, in the watched layers: ``[L, tokens, kv_heads,
        head_dim]``.
        """
        used = list(blocks[: -(-tokens // self.block_size)])
        with self._lock:
            cells = [self._cells[2 * layer][used] for layer in self._watched]
        layouts = (self._layouts[layer] for layer in self._watched)
        return np.stack([layout.read(held)[:tokens] for layout, held in zip(layouts, cells, strict=True) if layout])

    def _queries(self, start: int, end: int) -> FloatArray:
        """Queries of the last call's rows ``start .. end`` in the watched layers, ``[rows, L, heads, head_dim]``."""
        rows: FloatArray = self._request.get_tensor(WATCHED_QUERIES).data[start:end].copy()
        return rows.reshape(end - start, len(self._watched), -1, self._head_dim)

    def _key_layout(self, layer: int) -> KeyLayout | None:
        name = f"key_cache.{layer}"
        kind = self._compiled.input(name).get_element_type().get_type_name()
        return key_layout(kind, self._port_shape(name)[1:], self.block_size, self._head_dim)

    def _warm_up(self) -> None:
        """Run one token: the plugin makes its own copy of the weights when it first runs. Raises DeviceError."""
        step = SequenceStep(np.zeros(1, np.int64), np.zeros((3, 1), np.int64), 0, [0])
        try:
            self.forward([step], lambda: False)
        except RuntimeError as error:
            raise DeviceError(f"the device compiles the decoder and cannot run it: {error}") from error

    def _inputs(self, steps: Sequence[SequenceStep]) -> dict[str, npt.NDArray[np.generic]]:
        begins = np.cumsum([0, *(len(step.ids) for step in steps)])
        features, mask = self._visual_inputs(steps, begins)
        tables = [step.blocks[: -(-(step.past + len(step.ids)) // self.block_size)] for step in steps]
        return {
            "input_ids": np.concatenate([step.ids for step in steps]),
            "position_ids": np.concatenate([step.positions for step in steps], axis=1),
            "visual_features": features,
            "visual_mask": mask,
            "logit_rows": np.concatenate(
                [np.arange(end - step.rows, end) for step, end in zip(steps, begins[1:], strict=True)]
            ),
            "past_lens": np.array([step.past for step in steps], np.int32),
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": np.concatenate([np.array(table, np.int32) for table in tables]),
            "block_indices_begins": np.cumsum([0, *map(len, tables)]).astype(np.int32),
            "max_context_len": np.array(max(step.past + len(step.ids) for step in steps), np.int32),
        }

    def _visual_inputs(self, steps: Sequence[SequenceStep], begins: IntArray) -> tuple[FloatArray, FloatArray]:
        """Dense features ``[1 + deepstack, T, 1, hidden]`` and mask ``[T, 1, 1]``: tokens stand on the batch axis."""
        total = int(begins[-1])
        features = np.zeros((self._feature_rows, total, 1, self._hidden), np.float32)
        mask = np.zeros((total, 1, 1), np.float32)
        for step, begin in zip(steps, begins, strict=False):
            for rows in step.visuals:
                start = int(begin) + rows.start
                end = start + rows.features.shape[1]
                features[:, start:end, 0] = rows.features
                mask[start:end] = 1
        return features, mask

    def _port_shape(self, name: str) -> list[int]:
        """Shape of a cache port; the number of blocks, which is free, counts as 0."""
        shape = self._compiled.input(name).get_partial_shape()
        return [dimension.get_length() if dimension.is_static else 0 for dimension in shape]

    def _block_bytes(self, name: str) -> int:
        """Bytes of one block in one cache port."""
        size: int = self._compiled.input(name).get_element_type().size
        return math.prod(self._port_shape(name)[1:]) * size

    def _allocate(self, name: str) -> npt.NDArray[np.uint8]:
        """Cache of one port, ``[blocks, bytes]``: zeros that the system maps only when a block is first used."""
        port = self._compiled.input(name)
        shape = [self.blocks, *self._port_shape(name)[1:]]
        cells = np.zeros(self.blocks * self._block_bytes(name), np.uint8)
        self._request.set_tensor(name, ov.Tensor(cells, ov.Shape(shape), port.get_element_type()))
        return cells.reshape(self.blocks, -1)


def _give_out_queries(model: ov.Model, layers: Sequence[int]) -> bool:
    """Give a transformed model one more output: the queries of ``layers`` as attention takes them, normed and turned to
    their positions, of the rows whose logits are wanted. Layers are told by the cache that their attention reads. False
    if there is no such attention; then nothing is changed.
    """
    attentions = {
        name: node
        for node in model.get_ops()
        if node.get_type_name() == "PagedAttentionExtension"
        for name in node.input_value(3).get_names()
    }
    names = [f"key_cache.{layer}" for layer in layers]
    if not attentions.keys() >= set(names):
        return False
    rows = model.input("logit_rows")
    queries = [opset13.gather(attentions[name].input_value(0), rows, np.int64(0)) for name in names]
    output = opset13.concat(queries, axis=1).output(0)
    output.set_names({WATCHED_QUERIES})
    model.add_outputs([output])
    return True


def _expected_ports(text: TextDimensions, deepstack: int) -> dict[str, list[int]]:
    """Ports after the transformation, by the manifest; the layout of the caches is the plugin's own."""
    caches = {f"{kind}_cache.{layer}": [-1] * 4 for layer in range(text.layers) for kind in ("key", "value")}
    return {
        "input_ids": [-1],
        "position_ids": [3, -1],
        "visual_features": [1 + deepstack, -1, 1, text.hidden],
        "visual_mask": [-1, 1, 1],
        "logit_rows": [-1],
        "logits": [-1, text.vocab_rows],
        **caches,
    }
