"""Measures one choice of properties in a process of its own, because some choices crash a plugin.

    python -m vlrun.backends.openvino.trial MODEL HINTS

HINTS are ``Hints`` as JSON. The process loads the model, prints ``{}``, and answers each request, a line of JSON on
stdin, with a line on stdout: the outputs for ``check``, or seconds for a workload. An error is ``{"error": sentence}``.
It ends with its stdin.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np

from vlrun.backends.openvino.backend import OpenVINOBackend
from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import SequenceStep
from vlrun.errors import VlrunError, as_vlrun_error
from vlrun.models.model_folder import ModelFolder
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

KV_MEMORY = 256 * 2**20
CHECK_TOKENS, CHECK_STEPS, CHECK_SIDE = 24, 4, 8
"""Prompt tokens, decoded tokens, and patches per side of the image whose outputs are compared."""
CHECK_VALUES = 4096
"""Values per output that are compared, spread evenly."""


class Workload(msgspec.Struct, frozen=True):
    """What to time: a prefill of ``tokens``, ``steps`` decode steps, an image of ``side`` x ``side`` patches."""

    tokens: int
    steps: int
    side: int


class Seconds(msgspec.Struct, frozen=True):
    """Measured seconds: the prefill, the median decode step, the image."""

    prefill: float
    decode: float
    vision: float


class Outputs(msgspec.Struct, frozen=True):
    """A sample of the logits and of the image features for fixed inputs, and whether all of them are finite."""

    logits: list[float]
    features: list[float]
    finite: bool


class Request(msgspec.Struct, frozen=True):
    """A request: a workload to time, or None for the outputs."""

    workload: Workload | None = None


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply to a request; all None after loading."""

    seconds: Seconds | None = None
    outputs: Outputs | None = None
    error: str | None = None


Step: TypeAlias = tuple[int, int]
"""First position and number of tokens."""


class Trial:
    """A model that was loaded with certain hints, without an engine."""

    def __init__(self, folder: ModelFolder, hints: Hints) -> None:
        backend = OpenVINOBackend(folder, hints, threading.Event())
        self._manifest = folder.manifest
        self._decoder = backend.open_decoder(KV_MEMORY)
        self._decoder.warm_up()
        self._encoder = backend.open_vision_encoder()
        self._encoder.warm_up()

    def check(self) -> Outputs:
        """Return outputs for fixed inputs."""
        steps = [(0, CHECK_TOKENS), *((CHECK_TOKENS + number, 1) for number in range(CHECK_STEPS))]
        logits = np.stack([self._forward(step) for step in steps])
        features = self._encode(CHECK_SIDE)
        finite = bool(np.isfinite(logits).all() and np.isfinite(features).all())
        return Outputs(_sample(logits), _sample(features), finite)

    def measure(self, workload: Workload) -> Seconds:
        """Time a workload once."""
        steps = ((workload.tokens + number, 1) for number in range(workload.steps))
        return Seconds(
            self._timed((0, workload.tokens)), statistics.median(map(self._timed, steps)), self._encode_time(workload)
        )

    def _timed(self, step: Step) -> float:
        began = time.perf_counter()
        self._forward(step)
        return time.perf_counter() - began

    def _encode_time(self, workload: Workload) -> float:
        began = time.perf_counter()
        self._encode(workload.side)
        return time.perf_counter() - began

    def _forward(self, step: Step) -> FloatArray:
        start, count = step
        ids = np.random.default_rng(start).integers(0, self._manifest.text.vocab_size, count, np.int64)
        positions = np.tile(np.arange(start, start + count), (3, 1))
        blocks = range(-(-(start + count) // self._decoder.block_size))
        (output,) = self._decoder.forward([SequenceStep(ids, positions, start, blocks)], lambda: False)
        return output.logits

    def _encode(self, side: int) -> FloatArray:
        vision = self._manifest.vision
        grid = Grid(side, side, vision.merge)
        width = 3 * vision.temporal_patch * vision.patch**2
        pixels = np.random.default_rng(side).uniform(-1, 1, (grid.patches, width)).astype(np.float32)
        return self._encoder.encode(Patches(pixels, grid), lambda: False).values


def _sample(values: FloatArray) -> list[float]:
    """Return some of the values; JSON has no infinity."""
    return [float(value) for value in np.nan_to_num(values.ravel()[:: max(1, values.size // CHECK_VALUES)])]


def answer(trial: Trial, lines: Iterable[bytes]) -> Iterable[Reply]:
    """Yield the reply to each line."""
    yield Reply()
    for line in lines:
        request = msgspec.json.decode(line, type=Request)
        yield Reply(seconds=trial.measure(request.workload)) if request.workload else Reply(outputs=trial.check())


def main() -> None:
    """Serve the requests on stdin. What libraries print to stdout goes to stderr."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as replies:
        os.dup2(2, 1)
        encoder = msgspec.json.Encoder()
        try:
            trial = Trial(ModelFolder(Path(sys.argv[1])), msgspec.json.decode(sys.argv[2], type=Hints))
            for reply in answer(trial, sys.stdin.buffer):
                replies.write(encoder.encode(reply) + b"\n")
        except (VlrunError, RuntimeError, OSError, MemoryError) as error:
            replies.write(encoder.encode(Reply(error=str(as_vlrun_error(error)))) + b"\n")


if __name__ == "__main__":
    main()
