"""Which hints are fastest on this box: measured once by ``vlrun tune``, kept in the user's cache, used from then on.

What suits one CPU does not suit another, and no rule of thumb holds. Knows devices, clocks and one small file; does not
know questions.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import openvino as ov

from vlrun import manifest as manifests
from vlrun.backends.openvino.decoder import Decoder
from vlrun.backends.openvino.device import Device, open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import VisionEncoder
from vlrun.engine.backend import SequenceStep
from vlrun.errors import DeviceError, OptionError
from vlrun.manifest import Manifest
from vlrun.storage import cache_paths, files
from vlrun.vision.grid import Grid
from vlrun.vision.patches import Patches

PROMPT, ANSWER = 784, 64
"""A question about a 1024 x 768 image and its answer, in tokens: what the hints are to be fast for."""
PREFILL, DECODED = 256, 10
"""Tokens that are run to find out."""
GRID_SIDE = 32
"""Patches along each side of the image that is encoded to find out."""
MEMORY = 512 * 2**20
LEAST_GAIN = 0.03
"""What other hints must save, as a part, to be taken in place of the defaults."""
SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
VISION_PRECISIONS = (None, "f32", "bf16", "f16")


class Tuned(msgspec.Struct, frozen=True):
    """The fastest hints: seconds for a question as above, with them and with vlrun's defaults."""

    decoder_precision: str | None
    vision_precision: str | None
    group_size: int | None
    threads: int | None
    seconds: float
    default_seconds: float

    def applied(self, hints: Hints) -> Hints:
        """The hints with the tuned ones in place of defaults."""
        return replace(
            hints,
            decoder_precision=self.decoder_precision,
            vision_precision=self.vision_precision,
            group_size=self.group_size,
            threads=self.threads,
        )


def stored(folder: Path, device: str) -> Tuned | None:
    """What was found for this model on this device before; None if nothing was, or the file is damaged."""
    try:
        return msgspec.json.decode(_path(folder, device).read_bytes(), type=Tuned)
    except (OSError, RuntimeError, msgspec.MsgspecError):  # RuntimeError: the device is not there, as will be told
        return None


def store(tuned: Tuned, folder: Path, device: str) -> None:
    """Keep it. Raises OSError if the cache folder cannot be written."""
    path = _path(folder, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.put(path, msgspec.json.encode(tuned))


def tune(folder: Path, manifest: Manifest, device: str, tell: Callable[[str], None]) -> Tuned:
    """Measure one choice after the other, telling each result, and give the fastest hints.

    Raises DeviceError if nothing runs on that device.
    """
    default = Hints(device=device)

    def decoder(hints: Hints) -> float:
        return _decoder_seconds(open_device(hints), folder, manifest)

    def vision(hints: Hints) -> float:
        return _vision_seconds(open_device(hints), folder, manifest)

    measured = _measure({_words(hints): hints for hints in _decoder_choices(default)}, decoder, tell)
    best = _fastest(measured, default)
    fewer = {f"{threads} threads": replace(best, threads=threads) for threads in _fewer_threads()}
    measured |= _measure(fewer, decoder, tell)
    best = _fastest(measured, best)
    plain = replace(best, vision_precision=None)
    encoders = {f"vision {p or 'as the device likes'}": replace(best, vision_precision=p) for p in VISION_PRECISIONS}
    seen = _measure(encoders, vision, tell)
    if not measured or not seen:
        raise DeviceError(f"none of the hints work on {device}")
    eye = _fastest(seen, plain)
    return Tuned(
        best.decoder_precision,
        eye.vision_precision,
        best.group_size,
        best.threads,
        seconds=measured[best] + seen[eye],
        default_seconds=measured.get(default, measured[best]) + seen.get(plain, seen[eye]),
    )


def _decoder_choices(default: Hints) -> Iterator[Hints]:
    for precision in ("f32", "bf16", "f16"):
        for group_size in (128, 256, 32):
            yield replace(default, decoder_precision=precision, group_size=group_size)


def _fewer_threads() -> list[int]:
    """Half of the CPU's threads, where two of them share a core."""
    with suppress(OSError):
        return [] if SIBLINGS.read_text(encoding="ascii").strip() == "0" else [max(1, (os.cpu_count() or 2) // 2)]
    return []


def _measure(
    choices: Mapping[str, Hints], seconds_of: Callable[[Hints], float], tell: Callable[[str], None]
) -> dict[Hints, float]:
    """Seconds of all choices that the device takes."""
    measured = {}
    for words, hints in choices.items():
        try:
            measured[hints] = seconds_of(hints)
            tell(f"{words}: {measured[hints]:.2f} s")
        except (DeviceError, OptionError, RuntimeError):  # bf16 where there is none
            tell(f"{words}: not on this device")
    return measured


def _fastest(measured: Mapping[Hints, float], known: Hints) -> Hints:
    """The fastest, or what is known already if that is hardly slower: clocks are noisy, other hints round otherwise."""
    best = min(measured, key=measured.__getitem__, default=known)
    return known if measured.get(known, math.inf) <= measured.get(best, 0) * (1 + LEAST_GAIN) else best


def _decoder_seconds(device: Device, folder: Path, manifest: Manifest) -> float:
    """Prefill and decode of a question and its answer, reckoned from shorter ones."""
    decoder = Decoder(device, folder, manifest.text, manifest.vision.deepstack, MEMORY, PREFILL + DECODED)
    blocks = range(-(-(PREFILL + DECODED) // decoder.block_size))
    seconds = []
    for start, count in ((0, PREFILL), (0, PREFILL), *((PREFILL + n, 1) for n in range(DECODED))):
        positions = np.tile(np.arange(start, start + count), (3, 1))
        step = SequenceStep(np.ones(count, np.int64), positions, start, blocks)
        began = time.perf_counter()
        decoder.forward([step], lambda: False)
        seconds.append(time.perf_counter() - began)
    return seconds[1] * PROMPT / PREFILL + statistics.median(seconds[2:]) * ANSWER


def _vision_seconds(device: Device, folder: Path, manifest: Manifest) -> float:
    """The encoder on an image, the second time: the first one makes its copy of the weights."""
    encoder = VisionEncoder(device, folder, manifest.vision)
    vision = manifest.vision
    grid = Grid(GRID_SIDE, GRID_SIDE, vision.merge)
    patches = Patches(np.zeros((grid.patches, 3 * vision.temporal_patch * vision.patch**2), np.float32), grid)
    for _ in range(2):
        began = time.perf_counter()
        encoder.encode(patches, lambda: False)
        seconds = time.perf_counter() - began
    return seconds


def _words(hints: Hints) -> str:
    return f"decoder {hints.decoder_precision}, groups of {hints.group_size}"


def _path(folder: Path, device: str) -> Path:
    """Where the result for this model, device and OpenVINO is kept."""
    processor = ov.Core().get_property(device, "FULL_DEVICE_NAME")
    name = hashlib.sha256(f"{manifests.fingerprint(folder)} {processor} {ov.get_version()} {os.cpu_count()}".encode())
    return cache_paths.tuned_hints() / f"{name.hexdigest()[:32]}.json"
