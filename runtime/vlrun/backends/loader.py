"""Loads a model in the background: the decoder, the vision encoder once it is needed, and the engine."""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

from vlrun.backends.system_memory import MIB, total_memory, trim_heap
from vlrun.engine.backend import Backend, Decoder, OpenedDecoder
from vlrun.engine.engine import Engine
from vlrun.engine.owner_process import OwnerProcess
from vlrun.errors import DeviceError, EngineClosed, OptionError, UnreliableDevice, as_vlrun_error, result_of
from vlrun.kv_cache.prefix_store import PrefixStore, may_contain
from vlrun.manifest import Manifest
from vlrun.models.model_folder import ModelFolder
from vlrun.storage import cache_paths
from vlrun.types.cache_config import CacheConfig
from vlrun.vision.encoder_queue import Encodable, EncoderQueue
from vlrun.vision.image_encoder import ImageEncoder
from vlrun.vision.vision_encoder import VisionEncoder

T = TypeVar("T")

CACHE_VERSION = 2
"""Raise it when preprocessing, positions or prompts change: it invalidates all stored prefixes.

Prefixes of version 1 may come from weights that were changed under a running process, or from a GPU, whose prefixes
hold zeros.
"""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model.

    Attributes:
        settings: The settings in use, as a phrase for users.
        context: Limit on prompt and output tokens together.
        notes: Messages about the choice of the device and its settings.
        seconds: Loading time.
    """

    engine: Engine
    device: str
    settings: str
    context: int
    notes: tuple[str, ...]
    seconds: float


class ModelLoader:
    """Loads a model on the first backend that accepts it.

    The decoder is loaded at once, the vision encoder with the first image, each in its own thread. The encoder is
    usually ready first and encodes images while the decoder is still compiling.

    Args:
        folder: The opened and verified model folder.
        cache: What is kept in memory and on disk.
        open_backends: Returns functions that open the backends to try in order; called in a loader thread.
        compiling: Set when the compiler starts. Until then other work delays loading.
        automatic: Whether to choose the device, and to report the choice in the notes. Otherwise only a device that
            gives wrong results is replaced, and any other failure is raised.

    Attributes:
        process: The process that loads the model.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache: CacheConfig,
        open_backends: Callable[[], Sequence[Callable[[], Backend]]],
        compiling: threading.Event,
        *,
        automatic: bool,
    ) -> None:
        self.process = OwnerProcess()
        _LOADERS.add(self)
        self._loaded: Future[LoadedModel] = Future()
        self.compiling = compiling
        self.image_encoder = ImageEncoder(self.vision_encoder, folder.manifest.preprocessing, folder.manifest.vision)
        self.encoder_queue = EncoderQueue(self.image_encoder.encode)
        self._vision: Future[VisionEncoder] = Future()
        self._vision_requested = False
        self._backend: Backend | None = None
        self._folder, self._cache = folder, cache
        self._automatic = automatic
        self._start = time.perf_counter()
        self._lock = threading.Lock()
        self._stopped = False
        self._engine: Engine | None = None
        _start_thread(lambda: self._load(open_backends))

    @property
    def loaded(self) -> Future[LoadedModel]:
        """The loaded model, or DamagedModel, DeviceError, or OptionError for a cache that does not fit.

        Raises EngineClosed in a forked process.
        """
        self.process.check()
        return self._loaded

    def prefetch(self, images: Sequence[Encodable]) -> None:
        """Encode images while the decoder is loading, unless the disk may have their prefix."""
        if self.loaded.done():
            return
        if not (self._cache.kv_disk and may_contain(cache_paths.prefix_store(), [image.key for image in images])):
            self.encoder_queue.prefetch(images)

    def discard(self, images: Iterable[Encodable]) -> None:
        """Cancel prefetched images that no request has submitted."""
        if self.process.is_this():
            self.encoder_queue.discard(images)

    def vision_encoder(self) -> Future[VisionEncoder]:
        """Return the vision encoder. The first call starts loading it, because text needs none."""
        with self._lock:
            first, self._vision_requested = not self._vision_requested, True
            if first and self._backend:
                self._load_vision_encoder(self._backend)
            return self._vision

    def wait(self) -> None:
        """Wait until the model answers at full speed. Raises what made loading fail."""
        self.process.check()
        vision = self.vision_encoder() if self._cache.keep_vision_encoder else None
        result_of(self.loaded)
        if vision:
            result_of(vision).warm_up()

    def stop(self) -> None:
        """Tell all threads to stop, without waiting."""
        with self._lock:
            self._stopped = True
            if self._engine:
                self._engine.stop()
        self.encoder_queue.stop()

    def close(self) -> None:
        """Stop, and wait for the threads of engine and encoder queue, but not for a running compiler."""
        self.stop()
        if self._engine:
            self._engine.close()
        self.encoder_queue.close()

    def _load(self, open_backends: Callable[[], Sequence[Callable[[], Backend]]]) -> None:
        try:
            *others, open_last = open_backends()
            refusals, tried = [], []
            for open_other in others:
                backend = open_other()
                tried.append(backend.device)
                refusal = self._try(backend)
                if refusal is None:
                    return
                if not (self._automatic or isinstance(refusal, UnreliableDevice)):
                    raise refusal
                refusals.append(str(refusal))
            if self._automatic and not refusals:
                refusals = ["this machine has no integrated GPU"]
            last = open_last()
            asked = "AUTO" if self._automatic else tried[0] if tried else last.device
            notes = tuple(f"device {asked}: using the {last.device}, because {reason}" for reason in refusals)
            with self._lock:
                self._backend = last
                if self._vision_requested:
                    self._load_vision_encoder(last)
            _fulfil(self._loaded, lambda: self._assemble(self._open_last_decoder(last), last, notes))
        except BaseException as raised:  # noqa: BLE001 - re-raised in the waiting threads
            for future in (self._loaded, self._vision):
                if not future.done():
                    future.set_exception(as_vlrun_error(raised))
        finally:
            self.compiling.set()

    def _try(self, backend: Backend) -> DeviceError | OptionError | None:
        """Load and run decoder and encoder on a device that may refuse them. Return why it did, or None."""
        vision: Future[VisionEncoder] = Future()
        _start_thread(lambda: _fulfil(vision, backend.open_vision_encoder))
        try:
            try:
                decoder = self._open_decoder(backend)
                decoder.warm_up()
            finally:
                wait([vision])  # nothing may run while the next device is tried
            encoder = result_of(vision)
            encoder.warm_up()
            chosen = (f"device AUTO: using {backend.device}",) if self._automatic else ()
            model = self._assemble(decoder, backend, (*chosen, *backend.notes))
        except Exception as raised:
            error = as_vlrun_error(raised)
            if isinstance(error, DeviceError | OptionError):
                return error
            raise
        with self._lock:
            self._backend, self._vision_requested = backend, True
        self._vision.set_result(encoder)
        self._loaded.set_result(model)
        return None

    def _free_vision_encoder(self) -> None:
        """Forget the vision encoder, unless it is still loading; the next image loads it again."""
        with self._lock:
            if not self._vision.done():
                return
            freed, self._vision, self._vision_requested = self._vision, Future(), False
        del freed
        trim_heap()

    def _load_vision_encoder(self, backend: Backend) -> None:
        _start_thread(lambda: _fulfil(self._vision, backend.open_vision_encoder))

    def _open_last_decoder(self, backend: Backend) -> Decoder:
        decoder = self._open_decoder(backend)
        if not self._cache.keep_vision_encoder:
            self.encoder_queue.wait_idle()
            if self._stopped:
                raise EngineClosed("the model is closed")
            self._free_vision_encoder()  # so that both are not in memory when the decoder's weights are repacked
        decoder.warm_up()
        return decoder

    def _open_decoder(self, backend: Backend) -> OpenedDecoder:
        total, wanted = total_memory(), self._cache.kv_memory
        return backend.open_decoder(backend.default_cache_bytes(total) if wanted is None else wanted)

    def _assemble(self, decoder: Decoder, backend: Backend, notes: tuple[str, ...]) -> LoadedModel:
        context = _context(self._cache, self._folder.manifest, decoder)
        settings = f"{CACHE_VERSION} {self._folder.fingerprint} {backend.settings} {decoder.name}"
        root = hashlib.sha256(settings.encode()).digest()
        store = PrefixStore(cache_paths.prefix_store(), root, self._cache.kv_disk) if self._cache.kv_disk else None
        engine = Engine(decoder, self.encoder_queue, root, store=store)
        with self._lock:
            self._engine = engine
            if self._stopped:
                engine.stop()
        return LoadedModel(
            engine, backend.device, backend.description, context, notes, time.perf_counter() - self._start
        )


def finalize(loader: ModelLoader) -> None:
    """Stop a model's threads when it is closed or garbage-collected.

    Garbage collection may happen in any thread, and must not block there. In the main thread, wait: no inference may be
    running when the process ends.
    """
    if not loader.process.is_this():
        return  # its locks may be held for ever
    if threading.current_thread() is threading.main_thread():
        loader.close()
    else:
        loader.stop()


_LOADERS: weakref.WeakSet[ModelLoader] = weakref.WeakSet()
"""All that exist, for `_keep_models`."""


def _keep_models() -> None:
    """Keep all models for ever. In a forked process, destroying one waits for OpenVINO's threads, which it lacks."""
    for loader in _LOADERS:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loader))


os.register_at_fork(after_in_child=_keep_models)


def _start_thread(work: Callable[[], None]) -> None:
    """Start a thread that the process waits for at exit, because a compiler must not be interrupted.

    Unlike the daemon thread of the encoder queue, which may start it.
    """
    threading.Thread(target=work, name="vlrun-load", daemon=False).start()


def _fulfil(future: Future[T], make: Callable[[], T]) -> None:
    """Set a future's result, or its error."""
    try:
        future.set_result(make())
    except BaseException as raised:  # noqa: BLE001 - re-raised in the waiting threads
        future.set_exception(as_vlrun_error(raised))


def _context(cache: CacheConfig, manifest: Manifest, decoder: Decoder) -> int:
    """Return the limit on prompt and output tokens together."""
    capacity, wanted = decoder.blocks * decoder.block_size, cache.context
    if wanted is not None and wanted > manifest.text.max_positions:
        raise OptionError(f"context is {wanted}, but this model allows at most {manifest.text.max_positions}")
    if wanted is not None and wanted > capacity:
        per_token = decoder.block_bytes / decoder.block_size
        raise OptionError(
            f"a context of {wanted} tokens needs a KV cache of {-(-wanted * per_token // MIB):.0f} MiB, but it may "
            f"take {decoder.blocks * decoder.block_bytes // MIB} MiB: raise kv_memory or lower context"
        )
    return min(wanted or capacity, capacity, manifest.text.max_positions)
