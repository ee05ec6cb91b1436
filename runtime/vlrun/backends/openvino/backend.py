"""OpenVINO devices as backends, with their properties."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

from vlrun.backends.openvino.autotune import load_tuned
from vlrun.backends.openvino.cache_memory import default_cache_bytes
from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device, candidates, open_device
from vlrun.backends.openvino.hints import Hints
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

    @property
    def device(self) -> str:
        """Name of the device."""
        return self.hints.device

    @property
    def settings(self) -> str:
        """Everything besides the model that affects results."""
        return str(self.hints)

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
    tuned = [_tuned(folder, candidate) for candidate in candidates(hints)]
    return [OpenVINOBackend(folder, chosen, compiling) for chosen in tuned]


def _tuned(folder: ModelFolder, hints: Hints) -> Hints:
    """Use the properties that ``vlrun tune`` found, unless properties were given."""
    if hints != Hints(device=hints.device):
        return hints
    tuned = load_tuned(folder.fingerprint, hints.device)
    return tuned.apply(hints) if tuned else hints
