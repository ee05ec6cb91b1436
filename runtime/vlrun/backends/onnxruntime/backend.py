"""ONNX Runtime's CPU provider as a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrun.backends.cpu_info import count_threads
from vlrun.backends.onnxruntime.decoder import ONNXRuntimeDecoder
from vlrun.backends.onnxruntime.vision_encoder import ONNXRuntimeVisionEncoder
from vlrun.backends.openvino.hints import AUTO, Hints
from vlrun.errors import DeviceError, OptionError
from vlrun.manifest import Quantization
from vlrun.models.model_folder import ModelFolder

CPU_SHARE = 4
"""The KV cache may take a fourth of the memory, which is used only as the cache fills."""


@dataclass(frozen=True)
class ONNXRuntimeBackend:
    """A model folder on ONNX Runtime. Implements ``engine.backend.Backend``."""

    folder: ModelFolder
    threads: int | None
    compiling: threading.Event

    @property
    def device(self) -> str:
        """Name of the device."""
        return "CPU"

    @property
    def settings(self) -> str:
        """Everything besides the model that affects results."""
        return "onnxruntime"

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about settings that were changed."""
        return ()

    @property
    def description(self) -> str:
        """The settings in use, as a phrase for users."""
        return f"ONNX Runtime, decoder f32, vision encoder f32, KV cache f32, {count_threads(self.threads)}"

    def default_cache_bytes(self, total: int) -> int:
        """Return how much of ``total`` bytes of memory the KV cache may take unless the user says otherwise."""
        return total // CPU_SHARE

    def open_decoder(self, memory: int) -> ONNXRuntimeDecoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes."""
        self.compiling.set()
        return ONNXRuntimeDecoder(self.folder, self.threads, memory)

    def open_vision_encoder(self) -> ONNXRuntimeVisionEncoder:
        """Load the vision encoder."""
        self.compiling.set()
        return ONNXRuntimeVisionEncoder(self.folder, self.threads)


def onnxruntime_backends(
    folder: ModelFolder, hints: Hints, compiling: threading.Event
) -> Sequence[Callable[[], ONNXRuntimeBackend]]:
    """Return the one backend. Raises DeviceError or OptionError for what ONNX Runtime cannot do."""
    check_hints(hints, folder.manifest.quantization)
    return [lambda: ONNXRuntimeBackend(folder, hints.threads, compiling)]


def check_hints(hints: Hints, used: Quantization) -> None:
    """Raise DeviceError or OptionError for hints that only OpenVINO has. The defaults of ``Hints`` stand for none.

    Args:
        hints: The user's hints.
        used: The precisions of the model. ONNX Runtime quantizes activations where it has quantized weights.
    """
    quantizes = bool({used.decoder, used.vision} & {"int8", "int4"})
    if hints.device not in ("CPU", AUTO):
        raise DeviceError(f"the backend onnxruntime runs on the CPU only, not on {hints.device}: use --device CPU")
    default = Hints()
    for name, value, allowed in (
        ("decoder_precision", hints.decoder_precision, {default.decoder_precision}),
        ("vision_precision", hints.vision_precision, {default.vision_precision, "f32"}),
        ("kv_precision", hints.kv_precision, {default.kv_precision, "f32"}),
        ("group_size", hints.group_size, {default.group_size} if quantizes else {default.group_size, 0}),
    ):
        if value not in allowed:
            raise OptionError(
                f"the backend onnxruntime has no {name} {value} for this model: leave it out, or use a folder that was "
                "exported for OpenVINO"
            )
