"""Chooses the vision encoder's precision and the group size from the speed of a small layer on this CPU.

The fastest properties differ between CPUs: bf16 wins where the CPU has matrix units for it, and loses to f32 where it
only has instructions. A layer in miniature, two products with INT8 weights and attention in the encoder's proportions,
is timed with each choice in turn, at the first load only. Properties that are known to crash the plugin are not tried.

f32, which is exact, and the default group size stay unless another choice is clearly faster, by its shortest time and
in most rounds. A measurement that was disturbed by other load needs a wider margin and is repeated at a later load.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.cpu_info import cpu_field
from vlrun.backends.openvino.hints import DEFAULT_GROUP_SIZE, Hints
from vlrun.storage import cache_paths, files
from vlrun.storage.regular_files import read_regular
from vlrun.types.arrays import FloatArray

EXACT = "f32"
GROUP_SIZES = (256, 64)
"""Alternatives to the default group size."""
TOKENS, HIDDEN, HEADS = 320, 640, 10
"""The layer: two thirds of its operations are products and one third attention, as for a 1024 x 768 image."""
ROUNDS, MIN_ROUNDS = 7, 3
SECONDS = 0.4
"""The measurement ends after this time and at least ``MIN_ROUNDS``."""
MARGIN, DISTURBED_MARGIN = 0.1, 0.25
"""Share of the time that another choice must save."""
MAX_ERROR = 0.05
"""Relative error of the layer's output compared with f32, above which a choice is dropped."""
MAX_SPREAD = 1.3
"""Ratio of median to shortest time, above which the measurement counts as disturbed."""
REPEAT_SECONDS = 3600.0
"""A disturbed measurement is repeated after this time."""
MAX_AGE_SECONDS = 90 * 24 * 3600.0
"""Any other measurement is repeated after this time."""
MAX_BYTES = 1 << 16
"""Limit on the stored file, which has a few hundred bytes."""
QUANTIZING_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
"""CPU flags of the instructions for dynamic quantization."""

Choice: TypeAlias = tuple[str, int]
"""Precision and group size."""


def _name(precision: str, group_size: int) -> str:
    return f"{precision}/{group_size}"


DEFAULT = _name(EXACT, DEFAULT_GROUP_SIZE)


@dataclass(frozen=True)
class Probe:
    """A finished probe.

    Attributes:
        precision: The vision encoder's precision.
        group_size: The group size of dynamic quantization.
        summary: The measured times, as a phrase for users.
    """

    precision: str
    group_size: int
    summary: str


class Measurement(msgspec.Struct, frozen=True):
    """Times by choice, as ``precision/group size``.

    Attributes:
        seconds: The shortest time.
        ratios: Time relative to the default choice.
        start: Time of the measurement in seconds since the epoch.
        disturbed: Whether another process used the CPU.
    """

    seconds: Mapping[str, float]
    ratios: Mapping[str, float]
    start: float
    disturbed: bool

    @classmethod
    def of(cls, rounds: Mapping[str, Sequence[float]], start: float) -> Measurement:
        """Evaluate the seconds of all rounds. A choice is as fast as its shortest time and median round both say."""
        seconds = {name: min(times) for name, times in rounds.items()}
        default = rounds.get(DEFAULT, ())
        ratios = {
            name: max(
                seconds[name] / seconds[DEFAULT],
                statistics.median(time / other for time, other in zip(times, default, strict=True)),
            )
            for name, times in rounds.items()
            if default
        }
        disturbed = any(statistics.median(times) > MAX_SPREAD * min(times) for times in rounds.values())
        return cls(seconds, ratios, start, disturbed)

    def with_repeated(self, other: Measurement) -> Measurement:
        """Return the later measurement, averaged with this one if both were disturbed."""
        if not (self.disturbed and other.disturbed):
            return other
        ratios = {name: (ratio + self.ratios.get(name, ratio)) / 2 for name, ratio in other.ratios.items()}
        return Measurement(other.seconds, ratios, other.start, other.disturbed)

    def choice(self) -> Probe | None:
        """Return the choice that the measurement speaks for; None if not even the default one works."""
        if DEFAULT not in self.ratios:
            return None
        limit = 1 - (DISTURBED_MARGIN if self.disturbed else MARGIN)
        groups = {size: self.ratios.get(_name(EXACT, size), limit) for size in GROUP_SIZES}
        fastest = min(groups, key=groups.__getitem__)
        times = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in self.seconds.items())
        return Probe(
            "bf16" if self.ratios.get(_name("bf16", DEFAULT_GROUP_SIZE), limit) < limit else EXACT,
            fastest if groups[fastest] < limit else DEFAULT_GROUP_SIZE,
            f"measured {times}{', disturbed' if self.disturbed else ''}",
        )

    def is_current(self, now: float) -> bool:
        """Return whether the measurement need not be repeated."""
        return 0 <= now - self.start <= (REPEAT_SECONDS if self.disturbed else MAX_AGE_SECONDS)


def choose_properties(hints: Hints) -> tuple[Hints, str]:
    """Return the hints for a CPU with the properties that were left open, and how they were chosen."""
    probe = None
    if hints.vision_precision is None or hints.group_size is None:
        with suppress(RuntimeError):  # the plugin's defaults work, too
            probe = probe_cpu(hints.threads)
    if probe is None:
        return hints, ""
    if hints.decoder_precision != "f16" and hints.group_size is None:
        hints = replace(hints, group_size=probe.group_size)
    return replace(hints, vision_precision=hints.vision_precision or probe.precision), probe.summary


@cache
def probe_cpu(threads: int | None) -> Probe | None:
    """Return the choice for this CPU, from the cache folder or by measuring. None if there is nothing to choose."""
    core = ov.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    choices: list[Choice] = [(EXACT, DEFAULT_GROUP_SIZE)]
    if "BF16" in capabilities:
        choices.append(("bf16", DEFAULT_GROUP_SIZE))
    if can_quantize():
        choices += [(EXACT, size) for size in GROUP_SIZES]
    if len(choices) == 1:
        return Probe(EXACT, DEFAULT_GROUP_SIZE, "this CPU has only f32")
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    environment = f"{capabilities} {sorted(_cpu_flags())} {os.environ.get('ONEDNN_MAX_CPU_ISA')}"
    path = _path(f"{processor} {environment} {ov.get_version()} {len(os.sched_getaffinity(0))} {threads} {choices}")
    stored, now = _load(path), time.time()
    if stored is None or not stored.is_current(now):
        measured = measure(choices, threads)
        stored = stored.with_repeated(measured) if stored else measured
        _save(path, stored)
    return stored.choice()


def can_quantize() -> bool:
    """Return whether the CPU has instructions for dynamic quantization; without them the group size has no effect."""
    flags = _cpu_flags()
    return not flags or bool(QUANTIZING_FLAGS & flags)


def measure(choices: Sequence[Choice], threads: int | None) -> Measurement:
    """Time the layer with each choice in turn, several times; leave out those that fail or give another result."""
    start = time.time()
    rng = np.random.default_rng(0)
    model, inputs = _layer(rng), rng.standard_normal((TOKENS, HIDDEN), np.float32)
    core, requests = ov.Core(), {}
    reference: FloatArray | None = None
    for precision, group_size in choices:
        config = Hints(vision_precision=precision, group_size=group_size, threads=threads).vision_config()
        with suppress(RuntimeError):
            request = core.compile_model(model, "CPU", config).create_infer_request()
            output = request.infer([inputs])[0].astype(np.float32)
            reference = output if reference is None else reference
            if relative_error(output, reference) <= MAX_ERROR:
                requests[_name(precision, group_size)] = request
    seconds: dict[str, list[float]] = {name: [] for name in requests}
    began = time.perf_counter()
    for done in range(ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() - began > SECONDS:
            break
        for name, request in requests.items():
            before = time.perf_counter()
            request.infer([inputs], share_inputs=True)
            seconds[name].append(time.perf_counter() - before)
    return Measurement.of(seconds, start)


def _layer(rng: np.random.Generator) -> ov.Model:
    """Return a layer: a product, attention of the tokens to each other, another product."""
    parameter = opset13.parameter([TOKENS, HIDDEN], np.float32)
    by_head = [HEADS, TOKENS, HIDDEN // HEADS]
    queries = opset13.matmul(parameter, _int8_weights(rng), False, True)
    heads = [
        opset13.transpose(
            opset13.reshape(node, opset13.constant([TOKENS, HEADS, by_head[2]]), False), opset13.constant([1, 0, 2])
        )
        for node in (queries, parameter, parameter)
    ]
    attended = opset13.scaled_dot_product_attention(*heads)
    flat = opset13.reshape(
        opset13.transpose(attended, opset13.constant([1, 0, 2])), opset13.constant([TOKENS, HIDDEN]), False
    )
    return ov.Model([opset13.matmul(flat, _int8_weights(rng), False, True)], [parameter])


def _int8_weights(rng: np.random.Generator) -> ov.Output:
    """Return a matrix with INT8 weights as in vlrun's models, for which the plugin quantizes the activations."""
    weights = opset13.constant(rng.integers(0, 256, (HIDDEN, HIDDEN), np.uint8))
    zero_point = opset13.constant(np.full((HIDDEN, 1), 128, np.uint8))
    scales = opset13.constant(np.full((HIDDEN, 1), 1 / 2048, np.float16))
    shifted = opset13.subtract(opset13.convert(weights, ov.Type.f16), opset13.convert(zero_point, ov.Type.f16))
    return opset13.convert(opset13.multiply(shifted, scales), ov.Type.f32).output(0)


def relative_error(output: FloatArray, reference: FloatArray) -> float:
    """Return the relative error; infinity if a value is not finite."""
    if not np.isfinite(output).all():
        return float("inf")
    return float(np.linalg.norm(output - reference) / np.linalg.norm(reference))


def _cpu_flags() -> frozenset[str]:
    return frozenset(cpu_field("flags").split())


def _path(machine: str) -> Path:
    return cache_paths.probed_hints() / f"{hashlib.sha256(machine.encode()).hexdigest()[:32]}.json"


def _load(path: Path) -> Measurement | None:
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        return msgspec.json.decode(read_regular(path, MAX_BYTES, follow=False), type=Measurement)
    return None


def _save(path: Path, measured: Measurement) -> None:
    """Store a measurement; does nothing if the cache folder is not writable."""
    with suppress(OSError):
        files.write_cached(path, msgspec.json.encode(measured))
