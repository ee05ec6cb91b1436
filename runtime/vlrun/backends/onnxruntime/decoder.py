"""The language decoder on ONNX Runtime, with a KV cache that vlrun owns and GroupQueryAttention extends in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vlrun.backends.onnxruntime.cache_memory import CacheMemory, CacheShape
from vlrun.backends.onnxruntime.session import open_graph
from vlrun.backends.onnxruntime.slots import Extent, Slots
from vlrun.engine.backend import AttentionRecorder, SequenceStep, StepOutput
from vlrun.errors import DeviceError, OptionError, reason_of
from vlrun.manifest import TextDimensions
from vlrun.models.model_folder import ModelFolder
from vlrun.types.arrays import Bytes, FloatArray, IntArray

MIB = 2**20
BLOCK_SIZE = 32
"""Tokens of a block."""
SLOTS = 8
"""Sequences that the scheduler runs at once."""
COPIES = 4
"""One place in this many is for copies of prefixes that sequences share."""
PADDING_TOKENS = 1024
"""Room behind the longest sequence of a slot, because GroupQueryAttention counts padding too. It takes no memory."""
MAX_FULL_ANSWERS = 8
"""Full contexts that the KV cache holds at most, for small models on large machines."""


class ONNXRuntimeDecoder:
    """The decoder of a model folder, with a KV cache of at most ``memory`` bytes.

    Raises:
        DamagedModel: The graph cannot be read, or does not match the manifest.
        OptionError: ``memory`` is less than a block, or not available.
    """

    def __init__(self, folder: ModelFolder, threads: int | None, memory: int) -> None:
        text, self._deepstack = folder.manifest.text, folder.manifest.vision.deepstack
        self._text = text
        self._lock = threading.Lock()
        self._graph = open_graph(folder, "decoder", threads, _expected_ports(text, self._deepstack))
        self.block_size = BLOCK_SIZE
        self._allocate_cache(memory)
        self.name = f"ONNX Runtime {ort.__version__} CPU f32 {text.kv_heads} x {BLOCK_SIZE} x {text.head_dim}"
        self._bound: tuple[int, int] | None = None
        self._binding = self._graph.session.io_binding()

    @property
    def recorder(self) -> AttentionRecorder | None:
        """Recorder for heat maps."""
        return None

    def warm_up(self) -> None:
        """Run one token, so that the first request finds everything allocated. Raises DeviceError."""
        step = SequenceStep(np.zeros(1, np.int64), np.zeros((3, 1), np.int64), 0, [0])
        try:
            self.forward([step], lambda: False)
        except RuntimeError as error:
            raise DeviceError(f"ONNX Runtime cannot run the decoder: {reason_of(error)}") from error

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        """Run several sequences in one pass, or in several if they do not fit, and write their keys and values.

        Raises InferenceCancelled when ``stopped``, and ModelChanged if the file of the weights was changed.
        """
        outputs: dict[int, StepOutput] = {}
        extents = [_extent(step) for step in steps]
        with self._lock:
            for group in self._slots.split(extents):
                slots = self._slots.place([extents[index] for index in group])
                logits = self._run([steps[index] for index in group], slots, stopped)
                outputs |= zip(group, map(StepOutput, logits), strict=True)
        return [outputs[index] for index in range(len(steps))]

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """Copy blocks of all layers out of the KV cache, ``[len(blocks), block_bytes]``."""
        content = np.empty((len(blocks), *self._memory.pages.shape[1:]), np.float32)
        with self._lock:
            for target, block in zip(content, blocks, strict=True):
                target[:] = self._slots.read(block)
        return content.reshape(len(blocks), -1).view(np.uint8)

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        """Write the content that ``read_blocks`` returned into these blocks."""
        values = np.ascontiguousarray(content).view(np.float32).reshape(-1, *self._memory.pages.shape[1:])
        with self._lock:
            for block, value in zip(blocks, values, strict=True):
                self._slots.write(block, value)

    def _allocate_cache(self, memory: int) -> None:
        text = self._text
        one = CacheShape(text.layers, text.kv_heads, text.head_dim, BLOCK_SIZE, 1, 1, BLOCK_SIZE)
        self.block_bytes = one.block_bytes
        places = min(memory // self.block_bytes, -(-text.max_positions * MAX_FULL_ANSWERS // BLOCK_SIZE))
        if not places:
            raise OptionError(f"the KV cache needs at least {-(-self.block_bytes // MIB)} MiB, the size of one block")
        self.blocks = places - places // COPIES
        longest = min(self.blocks, -(-text.max_positions // BLOCK_SIZE)) * BLOCK_SIZE
        capacity = longest + PADDING_TOKENS
        for slots in (SLOTS, SLOTS // 2, SLOTS // 4, 1):  # where even address space is limited
            shape = CacheShape(text.layers, text.kv_heads, text.head_dim, BLOCK_SIZE, self.blocks, slots, capacity)
            try:
                self._memory = CacheMemory(shape)
            except MemoryError:
                continue
            self._slots = Slots(self._memory, slots, places, capacity)
            return
        raise OptionError(f"cannot allocate a KV cache of {memory // MIB} MiB on this machine: lower kv_memory")

    def _run(
        self, steps: Sequence[SequenceStep], slots: Sequence[int], stopped: Callable[[], bool]
    ) -> list[FloatArray]:
        """Run sequences in their slots, and return the logits of each."""
        rows = [step.rows for step in steps]
        logits = np.empty((sum(rows), self._text.vocab_rows), np.float32)
        first, last = min(slots), max(slots)
        self._bind_caches(first, last + 1)
        inputs = {
            **self._token_inputs(steps),
            **_slot_inputs(steps, [slot - first for slot in slots], last + 1 - first),
        }
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(value))
        self._binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._graph.run(self._binding, stopped, shrink=len(inputs["input_ids"]) > PADDING_TOKENS // 16)
        return np.split(logits, np.cumsum(rows)[:-1])

    def _bind_caches(self, first: int, end: int) -> None:
        """Bind the caches of neighbouring slots, each as input and output."""
        if self._bound == (first, end):
            return
        for layer in range(self._text.layers):
            for part, name in enumerate(("key", "value")):
                cells = self._memory.cells[layer, part, first:end]
                place = ("cpu", 0, np.float32, cells.shape, cells.ctypes.data)
                self._binding.bind_input(f"past_key_values.{layer}.{name}", *place)
                self._binding.bind_output(f"present.{layer}.{name}", *place)
        self._bound = first, end

    def _token_inputs(self, steps: Sequence[SequenceStep]) -> dict[str, npt.NDArray[np.generic]]:
        """Return the inputs that do not depend on slots."""
        begins = np.cumsum([0, *(len(step.ids) for step in steps)])
        features = [np.empty((1 + self._deepstack, 0, self._text.hidden), np.float32)]
        visual: list[IntArray] = [np.empty(0, np.int64)]
        for step, begin in zip(steps, begins, strict=False):
            for placed in step.images:
                start = int(begin) + placed.start
                features.append(placed.features.values)
                visual.append(np.arange(start, start + placed.features.tokens))
        return {
            "input_ids": np.concatenate([step.ids for step in steps]),
            "position_ids": np.concatenate([step.positions for step in steps], axis=1),
            "visual_features": np.concatenate(features, axis=1),
            "visual_rows": np.concatenate(visual)[:, None],
            "logit_rows": np.concatenate(
                [np.arange(end - step.rows, end) for step, end in zip(steps, begins[1:], strict=True)]
            ),
        }


def _extent(step: SequenceStep) -> Extent:
    past, end = step.past, step.past + len(step.ids)
    blocks = list(step.blocks[: -(-end // BLOCK_SIZE)])
    return Extent(blocks, -(-past // BLOCK_SIZE), past // BLOCK_SIZE, past, len(step.ids))


def _slot_inputs(steps: Sequence[SequenceStep], slots: Sequence[int], count: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return the inputs that place the tokens of ``steps`` in ``slots``, of which there are ``count``.

    A slot between them that is not in this pass gets no tokens; its cache must not be empty, so it counts as one.
    """
    longest = max(len(step.ids) for step in steps)
    padded = np.zeros((count, longest), np.int64)
    tokens, last = np.zeros(count, np.int32), np.zeros(count, np.int32)
    rows, begin = [], 0
    for step, slot in zip(steps, slots, strict=True):
        length = len(step.ids)
        padded[slot, :length] = np.arange(begin, begin + length)
        rows.append(slot * longest + np.arange(length))
        tokens[slot], last[slot] = length, step.past + length - 1
        begin += length
    return {
        "padded_rows": padded,
        "token_rows": np.concatenate(rows),
        "sequence_tokens": tokens,
        "last_tokens": last,
        "max_tokens": np.array(max(int(last.max()) + 1, longest), np.int32),
    }


def _expected_ports(text: TextDimensions, deepstack: int) -> dict[str, list[int]]:
    """Return the port shapes that the manifest implies."""
    caches = [f"{layer}.{part}" for layer in range(text.layers) for part in ("key", "value")]
    cache = [-1, text.kv_heads, -1, text.head_dim]
    return {
        "input_ids": [-1],
        "position_ids": [3, -1],
        "visual_features": [1 + deepstack, -1, text.hidden],
        "visual_rows": [-1, 1],
        "logit_rows": [-1],
        "padded_rows": [-1, -1],
        "token_rows": [-1],
        "sequence_tokens": [-1],
        "last_tokens": [-1],
        "max_tokens": [],
        "logits": [-1, text.vocab_rows],
        **{f"past_key_values.{name}": cache for name in caches},
        **{f"present.{name}": cache for name in caches},
    }
