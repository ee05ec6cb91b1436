"""Autotuning: measure which OpenVINO properties are fastest on this machine, and store them.

The best choice differs between CPUs. ``vlrun tune`` measures; loading a model uses the result unless other properties
are given.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import openvino as ov

from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.engine.backend import SequenceStep
from vlrun.errors import DeviceError, OptionError
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.regular_files import read_regular
from vlrun.storage import cache_paths, files
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

PROMPT_TOKENS, OUTPUT_TOKENS = 784, 64
"""The request to tune for: a question about a 1024 x 768 image, and its answer."""
MEASURED_PREFILL, MEASURED_DECODE = 256, 10
"""Tokens that are measured to estimate the time of that request."""
GRID_SIDE = 32
"""Side of the encoded image, in patches."""
KV_MEMORY = 512 * 2**20
MIN_GAIN = 0.03
"""Share of the time that other properties must save to replace the defaults, because measurements are noisy."""
SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
MAX_RESULT_BYTES = 4096
VISION_PRECISIONS = (None, "f32", "bf16", "f16")


class Tuned(msgspec.Struct, frozen=True):
    """The fastest properties, and the seconds of the request above with them and with the defaults."""

    decoder_precision: str | None
    vision_precision: str | None
    group_size: int | None
    threads: int | None
    seconds: float
    default_seconds: float

    def apply(self, hints: Hints) -> Hints:
        """Return the hints with the tuned properties."""
        return replace(
            hints,
            decoder_precision=self.decoder_precision,
            vision_precision=self.vision_precision,
            group_size=self.group_size,
            threads=self.threads,
        )


def load_tuned(fingerprint: str, device: str) -> Tuned | None:
    """Return the stored result for this model and device; None if there is none or the file is damaged."""
    try:
        return msgspec.json.decode(read_regular(_path(fingerprint, device), MAX_RESULT_BYTES, follow=False), type=Tuned)
    except (OSError, RuntimeError, msgspec.MsgspecError):  # RuntimeError: an unknown device, reported later
        return None


def save_tuned(tuned: Tuned, fingerprint: str, device: str) -> None:
    """Store a result. Raises OSError if the cache folder is not writable."""
    path = _path(fingerprint, device)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(path, msgspec.json.encode(tuned))


def tune(folder: ModelFolder, device: str, report: Callable[[str], None]) -> Tuned:
    """Measure one choice after another and return the fastest.

    ``report`` gets a line for each choice. Raises DeviceError if nothing runs on the device.
    """
    default = Hints(device=device)

    decoder, vision = partial(decoder_seconds, folder), partial(vision_seconds, folder)
    decoders = {
        f"decoder {precision}, groups of {size}": replace(default, decoder_precision=precision, group_size=size)
        for precision in ("f32", "bf16", "f16")
        for size in (128, 256, 32)
    }
    measured = _measure(decoders, decoder, report)
    best = _fastest(measured, default)
    fewer = {f"{threads} threads": replace(best, threads=threads) for threads in _thread_choices()}
    measured |= _measure(fewer, decoder, report)
    best = _fastest(measured, best)
    plain = replace(best, vision_precision=None)
    encoders = {
        f"vision {precision or 'as the device chooses'}": replace(best, vision_precision=precision)
        for precision in VISION_PRECISIONS
    }
    measured_vision = _measure(encoders, vision, report)
    if not measured or not measured_vision:
        raise DeviceError(f"no setting works on {device}")
    best_vision = _fastest(measured_vision, plain)
    return Tuned(
        best.decoder_precision,
        best_vision.vision_precision,
        best.group_size,
        best.threads,
        seconds=measured[best] + measured_vision[best_vision],
        default_seconds=measured.get(default, measured[best])
        + measured_vision.get(plain, measured_vision[best_vision]),
    )


def _thread_choices() -> list[int]:
    """Return half of the CPU's threads if two of them share a core, else nothing."""
    with suppress(OSError):
        return [] if SIBLINGS.read_text(encoding="ascii").strip() == "0" else [max(1, (os.cpu_count() or 2) // 2)]
    return []


def _measure(
    choices: Mapping[str, Hints], seconds_of: Callable[[Hints], float], report: Callable[[str], None]
) -> dict[Hints, float]:
    """Return the seconds of each choice that the device accepts."""
    measured = {}
    for description, hints in choices.items():
        try:
            measured[hints] = seconds_of(hints)
            report(f"{description}: {measured[hints]:.2f} s")
        except (DeviceError, OptionError, RuntimeError):  # such as bf16 on a CPU without it
            report(f"{description}: not supported on this device")
    return measured


def _fastest(measured: Mapping[Hints, float], default: Hints) -> Hints:
    """Return the fastest choice, or the default if it is at most ``MIN_GAIN`` slower."""
    best = min(measured, key=measured.__getitem__, default=default)
    return default if measured.get(default, math.inf) <= measured.get(best, 0) * (1 + MIN_GAIN) else best


def decoder_seconds(folder: ModelFolder, hints: Hints) -> float:
    """Estimate the prefill and decode time of the request from a shorter one."""
    text, total = folder.manifest.text, MEASURED_PREFILL + MEASURED_DECODE
    decoder = OpenVINODecoder(open_device(hints), folder, text, folder.manifest.vision.deepstack, KV_MEMORY, total)
    blocks = range(-(-total // decoder.block_size))
    steps = ((0, MEASURED_PREFILL), (0, MEASURED_PREFILL), *((MEASURED_PREFILL + n, 1) for n in range(MEASURED_DECODE)))
    seconds = []
    for start, count in steps:
        positions = np.tile(np.arange(start, start + count), (3, 1))
        step = SequenceStep(np.ones(count, np.int64), positions, start, blocks)
        began = time.perf_counter()
        decoder.forward([step], lambda: False)
        seconds.append(time.perf_counter() - began)
    return seconds[1] * PROMPT_TOKENS / MEASURED_PREFILL + statistics.median(seconds[2:]) * OUTPUT_TOKENS


def vision_seconds(folder: ModelFolder, hints: Hints) -> float:
    """Measure the second encoding of an image: in its first inference the plugin repacks the weights."""
    encoder = OpenVINOVisionEncoder(open_device(hints), folder, folder.manifest.vision, family_of(folder.manifest))
    vision = folder.manifest.vision
    grid = Grid(GRID_SIDE, GRID_SIDE, vision.merge)
    patches = Patches(np.zeros((grid.patches, 3 * vision.temporal_patch * vision.patch**2), np.float32), grid)
    for _ in range(2):
        began = time.perf_counter()
        encoder.encode(patches, lambda: False)
        seconds = time.perf_counter() - began
    return seconds


def _path(fingerprint: str, device: str) -> Path:
    """Return the file of the result for this model, processor and OpenVINO version."""
    processor = ov.Core().get_property(device, "FULL_DEVICE_NAME")
    name = hashlib.sha256(f"{fingerprint} {processor} {ov.get_version()} {os.cpu_count()}".encode())
    return cache_paths.tuned_hints() / f"{name.hexdigest()[:32]}.json"
