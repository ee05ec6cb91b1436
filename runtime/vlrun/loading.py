"""From a model folder to its two halves, compiled, in the room that they may have.

Knows folders, devices and memory; does not know questions.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vlrun import manifest as manifests
from vlrun.errors import DeviceError, OptionError, VlrunError
from vlrun.manifest import Manifest
from vlrun.model.decoder import Decoder
from vlrun.model.device import AUTO, Hints, candidates, open_device
from vlrun.model.memory import total_memory
from vlrun.model.vision import VisionEncoder
from vlrun.tuning import stored

MOST_FULL = 8
"""Answers of full length that the KV cache has room for at most: where the model is small and the memory large."""

MIB = 2**20
CACHE_VERSION = 1
"""To be raised when preprocessing, positions or prompts change, so that no stored prefix of before is used."""
KV_SHARE = 4
"""Without another word the KV cache may take this part of the memory, a fourth; it is taken only as the cache fills."""


@dataclass(frozen=True)
class Room:
    """How much the model may hold. ``context``: tokens of one prompt and its answer, None for as many as the model and
    the KV cache allow; ``kv_memory``: bytes of the KV cache, shared by all answers, None for a fourth of the memory;
    ``kv_disk``: bytes of the user's cache folder for what is known of pictures, so that the next process knows it too.
    """

    context: int | None = None
    kv_memory: int | None = None
    kv_disk: int = 0

    def __post_init__(self) -> None:
        for name, least, unit in (("context", 1, "token"), ("kv_memory", 1, "byte"), ("kv_disk", 0, "bytes")):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise OptionError(f"{name} must be a whole number of at least {least} {unit}, not {value}")


@dataclass(frozen=True)
class Halves:
    """Vision encoder and decoder, compiled. ``context``: tokens that a prompt and its answer may have; ``root``: a name
    for the model and how it runs; ``notes``: what there is to say about the device.
    """

    vision: VisionEncoder
    decoder: Decoder
    context: int
    root: bytes
    notes: tuple[str, ...]


def open_halves(folder: Path, manifest: Manifest, hints: Hints, room: Room) -> Halves:
    """Compile both halves on the first device that takes them. Where no hints but the device are given, those that
    ``vlrun tune`` found for it are used.

    Raises DamagedModel, DeviceError, or OptionError for room that the model cannot use.
    """
    vision, decoder, chosen, notes = _compile(folder, manifest, hints, room)
    root = _root(manifests.fingerprint(folder), chosen, decoder)
    return Halves(vision, decoder, _context(room, manifest, decoder), root, notes)


def _compile(
    folder: Path, manifest: Manifest, hints: Hints, room: Room
) -> tuple[VisionEncoder, Decoder, Hints, tuple[str, ...]]:
    """Both halves on the first device that takes them, with the hints for it, and what there is to say about that."""
    *others, last = [_tuned(folder, candidate) for candidate in candidates(hints)]
    refusals = []
    for candidate in others:
        try:
            halves = _compile_on(folder, manifest, candidate, room)
        except (DeviceError, OptionError) as error:
            refusals.append(str(error))
        else:
            return *halves, candidate, (f"device AUTO: {candidate.device} answers",)
    halves = _compile_on(folder, manifest, last, room)
    if hints.device != AUTO:
        return *halves, last, ()
    reason = "; ".join(refusals) or "there is no integrated GPU here"
    return *halves, last, (f"device AUTO: the CPU answers, since {reason}",)


def _tuned(folder: Path, hints: Hints) -> Hints:
    """The hints that were measured to be fastest, unless there are none, or others are asked for."""
    if hints != Hints(device=hints.device):
        return hints
    tuned = stored(folder, hints.device)
    return tuned.applied(hints) if tuned else hints


def _compile_on(folder: Path, manifest: Manifest, hints: Hints, room: Room) -> tuple[VisionEncoder, Decoder]:
    """Both halves at the same time. An interrupted caller does not wait for the compiler."""
    core = open_device(hints)
    executor = ThreadPoolExecutor(max_workers=2)
    memory = total_memory() // KV_SHARE if room.kv_memory is None else room.kv_memory
    if memory > total_memory():
        raise OptionError(f"kv_memory is {memory // MIB} MiB, but there are only {total_memory() // MIB} MiB here")
    most_tokens = manifest.text.max_positions * MOST_FULL
    try:
        vision = executor.submit(VisionEncoder, core, folder, manifest.vision, hints)
        decoder = executor.submit(
            Decoder, core, folder, manifest.text, manifest.vision.deepstack, hints, memory, most_tokens
        )
        return vision.result(), decoder.result()
    except VlrunError:
        executor.shutdown(wait=True, cancel_futures=True)  # another device may be tried, on a quiet machine
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _context(room: Room, manifest: Manifest, decoder: Decoder) -> int:
    """Tokens that one prompt and its answer may have."""
    held, wanted = decoder.blocks * decoder.block_size, room.context
    if wanted is not None and wanted > manifest.text.max_positions:
        raise OptionError(f"context is {wanted}, but this model was made for {manifest.text.max_positions} at most")
    if wanted is not None and wanted > held:
        per_token = decoder.block_bytes / decoder.block_size
        raise OptionError(
            f"a context of {wanted} tokens needs a KV cache of {-(-wanted * per_token // 2**20):.0f} MiB, but it may "
            f"take {decoder.blocks * decoder.block_bytes // 2**20} MiB: raise kv_memory or lower context"
        )
    return min(wanted or held, held, manifest.text.max_positions)


def _root(fingerprint: str, hints: Hints, decoder: Decoder) -> bytes:
    """A name for the model, for how it runs and for our own way with pictures: what another one computed must never be
    taken for its own.
    """
    return hashlib.sha256(f"{CACHE_VERSION} {fingerprint} {hints} {decoder.name}".encode()).digest()
