"""From a model folder to an engine that answers, in the room that it may have.

Knows folders, devices and memory; does not know questions.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from vlrun import manifest as manifests
from vlrun.backends.openvino.autotune import stored
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import Decoder
from vlrun.backends.openvino.device import AUTO, Device, candidates, open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.memory import total_memory
from vlrun.backends.openvino.vision_encoder import VisionEncoder
from vlrun.engine.engine import Engine
from vlrun.errors import DamagedModel, DeviceError, OptionError
from vlrun.kv_cache.prefix_store import PrefixStore
from vlrun.manifest import Manifest
from vlrun.promise import Promise
from vlrun.storage import cache_paths
from vlrun.types.cache_config import CacheConfig

MOST_FULL = 8
"""Answers of full length that the KV cache has room for at most: where the model is small and the memory large."""

MIB = 2**20
CACHE_VERSION = 1
"""To be raised when preprocessing, positions or prompts change, so that no stored prefix of before is used."""
KV_SHARE = 4
"""Without another word the KV cache may take this part of the memory, a fourth; it is taken only as the cache fills."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers. ``context``: tokens that a prompt and its answer may have; ``notes``: what there is to say
    about the ``device``; ``seconds``: how long it took to open.
    """

    engine: Engine
    device: str
    context: int
    notes: tuple[str, ...]
    seconds: float


class ModelLoader:
    """A model on its way: the decoder is opened at once, the vision encoder beside it as soon as somebody asks for it,
    each in a thread of its own, on the first device that takes them. Where no hints but the device are given, those
    that ``vlrun tune`` found for it are used.

    The encoder is there first as a rule, and can see images while the decoder is still compiled. Both promises end
    with DamagedModel or DeviceError if it goes wrong, ``running`` also with OptionError for room that the model cannot
    use.
    """

    def __init__(self, folder: Path, manifest: Manifest, fingerprint: str, hints: Hints, room: CacheConfig) -> None:
        self.running: Promise[LoadedModel] = Promise()
        self.compiling = threading.Event()
        """From here on there is time for other things: until here they would only be in the way."""
        self._seeing: Promise[VisionEncoder] = Promise()
        self._wanted = False
        self._chosen: Device | None = None
        self._folder, self._manifest, self._room = folder, manifest, room
        self._fingerprint = fingerprint
        self._began = time.perf_counter()
        self._lock = threading.Lock()
        self._stopped = False
        self._engine: Engine | None = None
        _start(partial(self._open, hints))

    def vision(self) -> Promise[VisionEncoder]:
        """The vision encoder, whose opening begins now if it has not begun: a question without images needs none."""
        with self._lock:
            begin, self._wanted = not self._wanted, True
            if begin and self._chosen:
                _start(partial(self._see, self._chosen))
        return self._seeing

    def wait(self) -> None:
        """Until the model answers at its full speed. Raises as said above."""
        seeing = self.vision()
        self.running.result()
        seeing.result().warm_up()

    def stop(self) -> None:
        """Tell the engine to stop, now or as soon as it is there, and wait for nothing."""
        with self._lock:
            self._stopped = True
            if self._engine:
                self._engine.stop()

    def close(self) -> None:
        """Stop at once, and wait for the engine's threads. A compiler that still runs is not waited for."""
        self.stop()
        if self._engine:
            self._engine.close()

    def _open(self, hints: Hints) -> None:
        try:
            *others, last = [_tuned(self._folder, candidate) for candidate in candidates(hints)]
            refusals = [refusal for candidate in others if not self.running.done for refusal in self._try(candidate)]
            if not self.running.done:
                reason = "; ".join(refusals) or "there is no integrated GPU here"
                notes = (f"device AUTO: the CPU answers, since {reason}",) if hints.device == AUTO else ()
                device = self._device(last)
                with self._lock:
                    self._chosen = device
                    if self._wanted:
                        _start(partial(self._see, device))
                self.running.keep(lambda: self._run(self._decoder(device), last, notes))
        except BaseException as error:  # noqa: BLE001 - goes to those who wait
            for promise in (self.running, self._seeing):
                promise.keep(partial(_raise, error))
        finally:
            self.compiling.set()

    def _see(self, device: Device) -> None:
        self._seeing.keep(partial(self._vision, device))

    def _try(self, hints: Hints) -> list[str]:
        """Open both halves on a device that may refuse them, also when they first run; why it did."""
        vision: Promise[VisionEncoder] = Promise()
        running: Promise[LoadedModel] = Promise()
        notes = (f"device AUTO: {hints.device} answers",)

        def both() -> LoadedModel:
            device = self._device(hints)
            _start(partial(vision.keep, partial(self._vision, device)))
            try:
                decoder = self._decoder(device)
            finally:
                vision.wait()  # another device is tried on a quiet machine
            vision.result().warm_up()
            return self._run(decoder, hints, notes)

        running.keep(both)
        try:
            opened = running.result()
        except (DeviceError, OptionError) as error:
            return [str(error)]
        self._seeing.keep(vision.result)
        self.running.keep(lambda: opened)
        return []

    def _device(self, hints: Hints) -> Device:
        blobs = CompileCache(cache_paths.compiled_models(), self._fingerprint)
        return replace(open_device(hints, blobs), compiling=self.compiling.set)

    def _vision(self, device: Device) -> VisionEncoder:
        return VisionEncoder(device, self._folder, self._manifest.vision)

    def _decoder(self, device: Device) -> Decoder:
        room, text = self._room, self._manifest.text
        memory = total_memory() // KV_SHARE if room.kv_memory is None else room.kv_memory
        if memory > total_memory():
            raise OptionError(f"kv_memory is {memory // MIB} MiB, but there are only {total_memory() // MIB} MiB here")
        deepstack = self._manifest.vision.deepstack
        return Decoder(device, self._folder, text, deepstack, memory, text.max_positions * MOST_FULL)

    def _run(self, decoder: Decoder, hints: Hints, notes: tuple[str, ...]) -> LoadedModel:
        context = _context(self._room, self._manifest, decoder)
        if manifests.fingerprint(self._folder) != self._fingerprint:  # what is cached would carry another's name
            raise DamagedModel(f"'{self._folder}' was replaced while it was being loaded: load it again")
        root = _root(self._fingerprint, hints, decoder)
        store = PrefixStore(cache_paths.prefix_store(), root, self._room.kv_disk) if self._room.kv_disk else None
        engine = Engine(decoder, root, store=store)
        with self._lock:
            self._engine = engine
            if self._stopped:
                engine.stop()
        return LoadedModel(engine, hints.device, context, notes, time.perf_counter() - self._began)


def _start(work: Callable[[], None]) -> None:
    """Begin with work that the end of the process waits for: a compiler must not be left in the middle."""
    threading.Thread(target=work, name="vlrun-open").start()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _tuned(folder: Path, hints: Hints) -> Hints:
    """The hints that were measured to be fastest, unless there are none, or others are asked for."""
    if hints != Hints(device=hints.device):
        return hints
    tuned = stored(folder, hints.device)
    return tuned.applied(hints) if tuned else hints


def _context(room: CacheConfig, manifest: Manifest, decoder: Decoder) -> int:
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
    """A name for the model, for how it runs and for our own way with images: what another one computed must never be
    taken for its own.
    """
    return hashlib.sha256(f"{CACHE_VERSION} {fingerprint} {hints} {decoder.name}".encode()).digest()
