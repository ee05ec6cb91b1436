"""The language decoder on a device, under PagedAttention: the runtime owns the KV cache and hands it in.

``paged_attention_transformation`` turns the stateful IR into one whose cache is an input. Tokens of all sequences of a
call lie one behind the other on one axis; block tables say where each sequence's past is. Sizes and types of the cache
are read from the compiled ports, because every plugin lays it out in its own way. Knows tensors and block numbers; does
not know who owns a block, nor what a token means.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino._offline_transformations import paged_attention_transformation

from vlrun.errors import DamagedModel
from vlrun.manifest import DECODER_XML, TextDimensions
from vlrun.model.device import Hints, check_ports, compile_model, read_model, run
from vlrun.model.positions import FloatArray, IntArray


@dataclass(frozen=True)
class VisualRows:
    """Visual tokens of a step: ``features [1 + deepstack, n, hidden]`` stand at tokens ``start .. start + n``."""

    start: int
    features: FloatArray


@dataclass(frozen=True)
class SequenceStep:
    """The next tokens of one sequence: ``ids [T]``, ``positions [3, T]``, after ``past`` tokens in ``blocks``.

    ``blocks`` must have room for ``past + T`` tokens.
    """

    ids: IntArray
    positions: IntArray
    past: int
    blocks: Sequence[int]
    visuals: tuple[VisualRows, ...] = ()


class Decoder:
    """The compiled decoder of a model folder with a cache of ``context`` tokens."""

    def __init__(
        self, core: ov.Core, folder: Path, text: TextDimensions, deepstack: int, hints: Hints, context: int
    ) -> None:
        model = read_model(core, folder / DECODER_XML)
        try:
            paged_attention_transformation(model)
        except RuntimeError as error:
            raise DamagedModel(f"'{DECODER_XML}' in '{folder}' is not a decoder that vlrun exported") from error
        self._compiled = compile_model(core, model, hints, hints.decoder_config())
        check_ports(self._compiled, _expected_ports(text, deepstack), f"'{DECODER_XML}' in '{folder}'")
        self._request = self._compiled.create_infer_request()
        self._feature_rows = 1 + deepstack
        self._hidden = text.hidden
        self._lock = threading.Lock()
        self.block_size = self._port_shape("value_cache.0")[2]
        self.blocks = -(-context // self.block_size)
        # The request does not keep its tensors' memory alive: this list does.
        self._cache = [self._allocate(f"{kind}_cache.{i}") for i in range(text.layers) for kind in ("key", "value")]

    def forward(self, steps: Sequence[SequenceStep]) -> FloatArray:
        """Run the next tokens of several sequences in one call; writes their keys and values into their blocks.

        Returns the logits after the last token of each, ``[len(steps), vocab_rows]``.
        """
        with self._lock:
            run(self._request, self._inputs(steps))
            logits: FloatArray = self._request.get_output_tensor(0).data.copy()
        return logits.reshape(len(steps), -1)

    def _inputs(self, steps: Sequence[SequenceStep]) -> dict[str, npt.NDArray[np.generic]]:
        begins = np.cumsum([0, *(len(step.ids) for step in steps)])
        features, mask = self._visual_inputs(steps, begins)
        tables = [step.blocks[: -(-(step.past + len(step.ids)) // self.block_size)] for step in steps]
        return {
            "input_ids": np.concatenate([step.ids for step in steps]),
            "position_ids": np.concatenate([step.positions for step in steps], axis=1),
            "visual_features": features,
            "visual_mask": mask,
            "logit_rows": begins[1:] - 1,
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

    def _allocate(self, name: str) -> ov.Tensor:
        """Cache of one layer: zeros that the system maps only when a block is first used."""
        port = self._compiled.input(name)
        shape = [self.blocks, *self._port_shape(name)[1:]]
        size = int(np.prod(shape)) * port.get_element_type().size
        tensor = ov.Tensor(np.zeros(size, np.uint8), ov.Shape(shape), port.get_element_type())
        self._request.set_tensor(name, tensor)
        return tensor


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
