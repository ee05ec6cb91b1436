"""The language decoder on an OpenVINO device, with PagedAttention over a KV cache that vlrun owns.

``paged_attention_transformation`` turns the stateful IR into one whose cache is an input. All tokens of a pass lie on
one axis; block tables locate each sequence's past. Shape and type of the cache differ by plugin and are read from the
compiled ports.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino._offline_transformations import paged_attention_transformation

from vlrun.backends.openvino.attention_recorder import OpenVINOAttentionRecorder, add_query_output
from vlrun.backends.openvino.cache_memory import CacheMemory, allocate_cache
from vlrun.backends.openvino.device import Device, check_ports, run
from vlrun.backends.openvino.graph_check import check_decoder_graph
from vlrun.backends.openvino.graphs import read_decoder
from vlrun.backends.openvino.mapped_weights import MappedWeights
from vlrun.backends.openvino.stale_shapes import StaleShapes
from vlrun.backends.system_memory import trim_heap
from vlrun.engine.backend import SequenceStep, StepOutput
from vlrun.errors import DamagedModel, DeviceError, OptionError, reason_of
from vlrun.manifest import TextDimensions
from vlrun.models.model_folder import ModelFolder
from vlrun.types.arrays import Bytes, FloatArray, IntArray

MIB = 2**20


class OpenVINODecoder:
    """The compiled decoder of a model folder.

    Args:
        device: The device.
        folder: The opened model folder.
        text: Dimensions of the decoder.
        deepstack: Number of DeepStack rows of the image features.
        memory: Bytes that the KV cache may take.
        max_tokens: Tokens that the KV cache need not exceed.
    """

    def __init__(
        self, device: Device, folder: ModelFolder, text: TextDimensions, deepstack: int, memory: int, max_tokens: int
    ) -> None:
        graph = read_decoder(device, folder)
        model = graph.model
        check_decoder_graph(model, text, graph.name)
        try:
            paged_attention_transformation(model)
        except RuntimeError as error:
            raise DamagedModel(f"{graph.name} is not a decoder that vlrun can run: export or copy it again") from error
        recorded_layers = add_query_output(model, device, text.layers)
        self._device = device.hints.device
        self._check_weights = partial(folder.check_unchanged, *graph.weights)
        self._lock = threading.Lock()
        self._shapes = StaleShapes()
        self._feature_rows = 1 + deepstack
        self._hidden = text.hidden
        self._mapped = MappedWeights(model)
        with self._mapped:
            self._compiled = device.compile_model(model, folder, graph.weights, device.hints.decoder_config())
            check_ports(self._compiled, _expected_ports(text, deepstack), graph.name)
            self._request = self._compiled.create_infer_request()
            ports = [f"{kind}_cache.{layer}" for layer in range(text.layers) for kind in ("key", "value")]
            self._allocate_cache(device, ports, memory, max_tokens)
            keys = {layer: self._caches[2 * layer].cells for layer in recorded_layers}
            self.recorder: OpenVINOAttentionRecorder | None = None
            if keys:
                self.recorder = OpenVINOAttentionRecorder(
                    self._compiled, self._request, self._lock, keys, self.block_size, text.head_dim
                )
        layout = [f"{self._compiled.input(name)}" for name in ports]
        self.name = f"{device.core.get_property(device.hints.device, 'FULL_DEVICE_NAME')} {ov.get_version()} {layout}"

    def warm_up(self) -> None:
        """Run one token, so that the plugin repacks the weights now. Raises DeviceError."""
        step = SequenceStep(np.zeros(1, np.int64), np.zeros((3, 1), np.int64), 0, [0])
        try:
            with self._mapped:
                self.forward([step], lambda: False)
        except RuntimeError as error:
            raise DeviceError(f"{self._device} compiles the decoder but cannot run it: {reason_of(error)}") from error
        self._mapped.own()
        trim_heap()

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        """Run several sequences in one pass and write their keys and values.

        Raises InferenceCancelled when ``stopped``, and ModelChanged if the file of the weights was changed.
        """
        ends = np.cumsum([step.rows for step in steps])
        with self._lock:
            self._check_weights()  # a shorter file would end the process
            if size := self._shapes.repairing_size():
                self._repair_shapes(size)
            inputs = self._inputs(steps)
            with self._shapes.inference(len(inputs["input_ids"]), int(ends[-1])):
                run(self._request, inputs, stopped)
            self._mapped.release()  # rows of the embedding table, and weights that were packed in another form
            self._check_weights()
            logits: FloatArray = self._request.get_output_tensor(0).data.copy()
            queries = [
                self.recorder.queries(int(end) - step.rows, int(end)) if self.recorder and step.record_queries else None
                for step, end in zip(steps, ends, strict=True)
            ]
        rows = np.split(logits.reshape(int(ends[-1]), -1), ends[:-1])
        return [StepOutput(*output) for output in zip(rows, queries, strict=True)]

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """Copy blocks of all layers out of the KV cache, ``[len(blocks), block_bytes]``."""
        content = np.empty((len(blocks), self.block_bytes), np.uint8)
        start = 0
        with self._lock:
            for cells in (cache.cells for cache in self._caches):
                np.take(cells, list(blocks), axis=0, out=content[:, start : start + cells.shape[1]], mode="clip")
                start += cells.shape[1]
        return content

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        """Write the content that ``read_blocks`` returned into these blocks."""
        start = 0
        with self._lock:
            for cells in (cache.cells for cache in self._caches):
                cells[list(blocks)] = content[:, start : start + cells.shape[1]]
                start += cells.shape[1]

    def _allocate_cache(self, device: Device, ports: Sequence[str], memory: int, max_tokens: int) -> None:
        """Allocate the KV cache. Raises OptionError if ``memory`` is less than a block, or not available."""
        self.block_size = self._port_shape("value_cache.0")[2]
        self.block_bytes = sum(self._port_block_bytes(name) for name in ports)
        self.blocks = min(memory // self.block_bytes, -(-max_tokens // self.block_size))
        if not self.blocks:
            raise OptionError(f"the KV cache needs at least {-(-self.block_bytes // MIB)} MiB, the size of one block")
        try:
            # Keeps the memory of the request's tensors alive.
            self._caches = [self._allocate_port(device, name) for name in ports]
        except MemoryError:
            raise OptionError(
                f"cannot allocate a KV cache of {memory // MIB} MiB on this machine: lower kv_memory"
            ) from None

    def _repair_shapes(self, size: int) -> None:
        """Run a pass of ``size`` tokens, all with logits, on blocks that keep their content."""
        blocks = range(-(-size // self.block_size))
        content = [cache.cells[: len(blocks)].copy() for cache in self._caches]
        step = SequenceStep(np.zeros(size, np.int64), np.zeros((3, size), np.int64), 0, blocks, rows=size)
        try:
            with self._shapes.inference(size):
                run(self._request, self._inputs([step]), lambda: False)
        finally:
            for cache, cells in zip(self._caches, content, strict=True):
                cache.cells[: len(blocks)] = cells

    def _inputs(self, steps: Sequence[SequenceStep]) -> dict[str, npt.NDArray[np.generic]]:
        begins = np.cumsum([0, *(len(step.ids) for step in steps)])
        features, mask = self._image_inputs(steps, begins)
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

    def _image_inputs(self, steps: Sequence[SequenceStep], begins: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return dense features ``[1 + deepstack, T, 1, hidden]`` and mask ``[T, 1, 1]``; tokens are the batch axis."""
        total = int(begins[-1])
        features = np.zeros((self._feature_rows, total, 1, self._hidden), np.float32)
        mask = np.zeros((total, 1, 1), np.float32)
        for step, begin in zip(steps, begins, strict=False):
            for placed in step.images:
                start = int(begin) + placed.start
                end = start + placed.features.tokens
                features[:, start:end, 0] = placed.features.values
                mask[start:end] = 1
        return features, mask

    def _port_shape(self, name: str) -> list[int]:
        """Return the shape of a cache port, with 0 for the dynamic number of blocks."""
        shape = self._compiled.input(name).get_partial_shape()
        return [dimension.get_length() if dimension.is_static else 0 for dimension in shape]

    def _port_block_bytes(self, name: str) -> int:
        size: int = self._compiled.input(name).get_element_type().size
        return math.prod(self._port_shape(name)[1:]) * size

    def _allocate_port(self, device: Device, name: str) -> CacheMemory:
        element_type = self._compiled.input(name).get_element_type()
        cache = allocate_cache(device, element_type, [self.blocks, *self._port_shape(name)[1:]])
        self._request.set_tensor(name, cache.tensor)
        return cache


def _expected_ports(text: TextDimensions, deepstack: int) -> dict[str, list[int]]:
    """Return the port shapes that the manifest implies; the layout of the caches is up to the plugin."""
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
