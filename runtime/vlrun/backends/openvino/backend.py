"""OpenVINO devices as backends, with their properties."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import openvino as ov

from vlrun.backends.openvino.cache_memory import default_cache_bytes
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, candidates, check_available, open_device, runtime_of
from vlrun.backends.openvino.device_check import DeviceCheck, Setting, Verdict, decoder_settings, vision_settings
from vlrun.backends.openvino.device_probe import CACHE_TOKENS, DeviceProbe, ProbeResult
from vlrun.backends.openvino.hints import Hints, is_cpu
from vlrun.backends.openvino.precision_probe import choose_properties
from vlrun.backends.openvino.tuned import load_tuned
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder, StaticVisionEncoder
from vlrun.backends.system_memory import total_memory, trim_heap
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.storage import cache_paths
from vlrun.vision.vision_encoder import VisionEncoder

MAX_FULL_ANSWERS = 8
"""Full contexts that the KV cache holds at most, for small models on large machines."""
REFERENCE = Hints(vision_precision="f32", kv_precision="f32", group_size=0)
"""Properties of the CPU for the results that a GPU is compared with: as exact as possible."""


@dataclass(frozen=True)
class OpenVINOBackend:
    """A model folder on the CPU. Implements ``engine.backend.Backend``."""

    folder: ModelFolder
    hints: Hints
    compiling: threading.Event
    reason: str = ""

    @property
    def device(self) -> str:
        """Name of the device."""
        return self.hints.device

    @property
    def settings(self) -> str:
        """Everything besides the model that affects results."""
        return str(self.hints)

    @property
    def description(self) -> str:
        """The properties in use, and how they were chosen."""
        return f"{self.hints.describe()} ({self.reason})" if self.reason else self.hints.describe()

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about settings that were changed."""
        return ()

    def default_cache_bytes(self, total: int) -> int:
        """Return how much of ``total`` bytes of memory the KV cache may take unless the user says otherwise."""
        return default_cache_bytes(self.device, total)

    def open_decoder(self, memory: int) -> OpenVINODecoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes."""
        return self._decoder(open_device(self.hints, compiling=self.compiling), memory)

    def open_vision_encoder(self) -> VisionEncoder:
        """Load the vision encoder."""
        return self._vision_encoder(open_device(self.hints, compiling=self.compiling))

    def _decoder(self, device: Device, memory: int, max_tokens: int | None = None) -> OpenVINODecoder:
        text, deepstack = self.folder.manifest.text, self.folder.manifest.vision.deepstack
        limit = max_tokens or text.max_positions * MAX_FULL_ANSWERS
        return OpenVINODecoder(device, self.folder, text, deepstack, memory, limit)

    def _vision_encoder(self, device: Device, patches: int | None = None) -> OpenVINOVisionEncoder:
        manifest = self.folder.manifest
        return OpenVINOVisionEncoder(device, self.folder, manifest.vision, family_of(manifest), patches)


@dataclass(frozen=True)
class CheckedBackend(OpenVINOBackend):
    """A model folder on a GPU, whose results are compared with the CPU's at the first load."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> str:
        """Everything besides the model that affects results; complete when both parts are open."""
        return f"{self.hints} {self._check.settings}"

    @property
    def description(self) -> str:
        """The properties in use, and how they were chosen; complete when both parts are open."""
        return "; ".join((super().description, *self._check.changes))

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about settings that were changed; complete when both parts are open."""
        return self._check.notes

    def open_decoder(self, memory: int) -> OpenVINODecoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes. Raises UnreliableDevice."""
        settings = decoder_settings(self.hints)
        return self._check.decoder(settings, lambda setting: self._warm_decoder(self._open(setting), memory))

    def open_vision_encoder(self) -> VisionEncoder:
        """Load the vision encoder. Raises UnreliableDevice."""

        def make(setting: Setting) -> VisionEncoder:
            device = self._open(setting)
            if setting.static:
                return StaticVisionEncoder(lambda patches: self._vision_encoder(device, patches))
            return self._vision_encoder(device)

        return self._check.vision_encoder(vision_settings(self.hints), make)

    def _warm_decoder(self, device: Device, memory: int, max_tokens: int | None = None) -> OpenVINODecoder:
        decoder = self._decoder(device, memory, max_tokens)
        decoder.warm_up()
        return decoder

    def _open(self, setting: Setting) -> Device:
        runtime, _ = self._runtime
        cache = CompileCache(cache_paths.compiled_models(), self.folder.fingerprint, runtime) if runtime else None
        return open_device(setting.hints, cache, self.compiling)

    @cached_property
    def _runtime(self) -> tuple[str | None, str]:
        """Return the versions that results depend on, and the processor."""
        core = ov.Core()
        check_available(core, self.device)
        processor = f"{core.get_property(self.device, 'FULL_DEVICE_NAME')}"
        return runtime_of(core, self.device), processor

    @property
    def _check(self) -> DeviceCheck:
        with self.lock:  # two threads open decoder and vision encoder
            return self._only_check

    @cached_property
    def _only_check(self) -> DeviceCheck:
        runtime, processor = self._runtime
        folder = cache_paths.device_checks() if runtime else None
        verdict = Verdict(processor, f"{ov.get_version()} {runtime}", self.folder.fingerprint)
        probe = DeviceProbe(self.folder.manifest)
        return DeviceCheck(self.device, verdict, folder, probe, lambda: self._reference(probe))

    def _reference(self, probe: DeviceProbe) -> ProbeResult:
        """Run the probe on the CPU."""
        device = open_device(REFERENCE, compiling=self.compiling)
        features = probe.encode(self._vision_encoder(device))
        logits = probe.decode(self._warm_decoder(device, total_memory(), CACHE_TOKENS), features[-1])
        trim_heap()
        return ProbeResult(features, logits)


def openvino_backends(
    folder: ModelFolder, hints: Hints, compiling: threading.Event
) -> list[Callable[[], OpenVINOBackend]]:
    """Return the backends to try in order; each is opened by a call, because choosing its properties takes time."""
    return [partial(_open_backend, folder, candidate, compiling) for candidate in candidates(hints)]


def _open_backend(folder: ModelFolder, hints: Hints, compiling: threading.Event) -> OpenVINOBackend:
    chosen, reason = choose_hints(folder, hints)
    return (OpenVINOBackend if is_cpu(hints.device) else CheckedBackend)(folder, chosen, compiling, reason)


def choose_hints(folder: ModelFolder, hints: Hints, *, use_tuned: bool = True) -> tuple[Hints, str]:
    """Return hints with a choice for all that is left open, and how it was made.

    What ``vlrun tune`` found is used unless properties were given; else a CPU is probed.
    """
    is_open = use_tuned and hints == Hints(device=hints.device)
    tuned = load_tuned(folder.fingerprint, hints.device) if is_open else None
    if tuned:
        return tuned.apply(hints), "found by vlrun tune"
    return choose_properties(hints) if is_cpu(hints.device) else (hints, "")
