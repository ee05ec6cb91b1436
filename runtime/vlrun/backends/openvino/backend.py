"""OpenVINO devices as backends, with their properties."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

from vlrun.backends.openvino.cache_memory import default_cache_bytes
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, candidates, open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.precision_probe import choose_properties
from vlrun.backends.openvino.tuned import load_tuned
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.storage import cache_paths

MAX_FULL_ANSWERS = 8
"""Full contexts that the KV cache holds at most, for small models on large machines."""


@dataclass(frozen=True)
class OpenVINOBackend:
    """A model folder on one OpenVINO device. Implements ``engine.backend.Backend``."""

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

    def default_cache_bytes(self, total: int) -> int:
        """Return how much of ``total`` bytes of memory the KV cache may take unless the user says otherwise."""
        return default_cache_bytes(self.device, total)

    def open_decoder(self, memory: int) -> OpenVINODecoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes."""
        text, vision = self.folder.manifest.text, self.folder.manifest.vision
        max_tokens = text.max_positions * MAX_FULL_ANSWERS
        return OpenVINODecoder(self._device, self.folder, text, vision.deepstack, memory, max_tokens)

    def open_vision_encoder(self) -> OpenVINOVisionEncoder:
        """Load the vision encoder."""
        manifest = self.folder.manifest
        return OpenVINOVisionEncoder(self._device, self.folder, manifest.vision, family_of(manifest))

    @cached_property
    def _device(self) -> Device:
        cache = CompileCache(cache_paths.compiled_models(), self.folder.fingerprint)
        return open_device(self.hints, cache, self.compiling)


def openvino_backends(folder: ModelFolder, hints: Hints, compiling: threading.Event) -> list[OpenVINOBackend]:
    """Return the backends to try in order."""
    chosen = [choose_hints(folder, candidate) for candidate in candidates(hints)]
    return [OpenVINOBackend(folder, hints, compiling, reason) for hints, reason in chosen]


def choose_hints(folder: ModelFolder, hints: Hints, *, use_tuned: bool = True) -> tuple[Hints, str]:
    """Return hints with a choice for all that is left open, and how it was made.

    What ``vlrun tune`` found is used unless properties were given; else a CPU is probed.
    """
    is_open = use_tuned and hints == Hints(device=hints.device)
    tuned = load_tuned(folder.fingerprint, hints.device) if is_open else None
    if tuned:
        return tuned.apply(hints), "found by vlrun tune"
    return choose_properties(hints) if hints.device.split(".")[0] == "CPU" else (hints, "")
