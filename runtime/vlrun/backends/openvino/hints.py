"""The user's choice of device and OpenVINO properties. Does not import OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vlrun.backends.cpu_info import count_threads
from vlrun.errors import OptionError
from vlrun.layout import BACKENDS
from vlrun.types.arguments import check_fields, instance, optional, text, whole_number

AUTO = "AUTO"
"""Device name for the automatic choice."""
DEFAULT_GROUP_SIZE = 128
"""Group size of dynamic quantization that was the fastest on most machines (docs/performance.md)."""


@dataclass(frozen=True)
class Hints:
    """The device and OpenVINO properties; None leaves a choice to vlrun or the plugin.

    The defaults were the fastest for INT8 weights on server and client CPUs (docs/performance.md): an 8-bit KV cache,
    and f32 inference for the decoder, which beats bf16 even on CPUs that have it. On a CPU, vlrun chooses the precision
    of the vision encoder and the group size by a short measurement at the first load (``precision_probe``).
    ``VLM.settings`` tells what is in use.

    Attributes:
        device: CPU, GPU, or AUTO: an integrated GPU if there is one and it accepts the model, else the CPU. A GPU that
            gives other results than the CPU is replaced by it. ``VLM.notes`` reports the choice.
        threads: CPU threads; a GPU ignores it.
        decoder_precision: Inference precision of the decoder.
        vision_precision: Inference precision of the vision encoder; None: the faster one on this machine.
        kv_precision: Element type of the KV cache.
        group_size: Group size of dynamic quantization, 0 turns it off; None: the fastest one on this machine.
        backend: openvino or onnxruntime; None: the one that the model folder was exported for. ONNX Runtime has only
            ``threads`` of these properties.

    Raises:
        OptionError: A value has the wrong type or range, or the combination crashes the plugin.
    """

    device: str = "CPU"
    threads: int | None = None
    decoder_precision: str | None = "f32"
    vision_precision: str | None = None
    kv_precision: str | None = "u8"
    group_size: int | None = None
    backend: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        precisions = ("decoder_precision", "vision_precision", "kv_precision")
        counts = ("threads", "group_size")
        checks = dict.fromkeys(precisions, optional(text)) | dict.fromkeys(counts, optional(whole_number))
        check_fields(self, {"device": instance(str, "a name such as CPU"), "backend": optional(text), **checks})
        if (self.threads is not None and self.threads < 1) or (self.group_size or 0) < 0:
            raise OptionError("threads must be at least 1, and group_size at least 0")
        if self.backend not in (None, *BACKENDS):
            raise OptionError(f"there is no backend '{self.backend}'; available: {', '.join(BACKENDS)}")
        object.__setattr__(self, "device", self.device.upper())
        if self._cpu_with_f16 and self.group_size:
            raise OptionError(
                f"decoder precision f16 with group size {self.group_size} crashes OpenVINO's CPU plugin: "
                "use group size 0 or another precision"
            )

    def on_cpu(self) -> Hints:
        """Return these hints for the CPU, which replaces another device."""
        group_size = 0 if self.decoder_precision == "f16" else self.group_size
        return replace(self, device="CPU", group_size=group_size)

    def describe(self) -> str:
        """Return the properties as a phrase for users."""
        group = self._group_size
        return ", ".join(
            [
                f"decoder {self.decoder_precision or 'as the plugin chooses'}",
                f"vision encoder {self.vision_precision or 'as the plugin chooses'}",
                f"KV cache {self.kv_precision or 'as the plugin chooses'}",
                f"groups of {group}" if group else "no dynamic quantization",
                count_threads(self.threads),
            ]
        )

    def decoder_config(self) -> dict[str, str]:
        """Return the OpenVINO properties of the decoder.

        Keys are quantized by token, as values are. The plugins' default, a scale per channel of a block, requantizes
        the block with every token written to it: results would depend on how the past was split into steps, and on
        rejected guesses. With f32 inference the GPU plugin even refuses the block size that it chose for it.
        """
        by_token = self.kv_precision in {None, "u8"}
        return self._config(
            {
                "INFERENCE_PRECISION_HINT": self.decoder_precision,
                "KV_CACHE_PRECISION": self.kv_precision,
                "KEY_CACHE_QUANT_MODE": "BY_TOKEN" if by_token else None,
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": self._group_size,
            }
        )

    def vision_config(self) -> dict[str, str]:
        """Return the OpenVINO properties of the vision encoder."""
        return self._config(
            {"INFERENCE_PRECISION_HINT": self.vision_precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": self._group_size}
        )

    @property
    def _cpu_with_f16(self) -> bool:
        return is_cpu(self.device) and self.decoder_precision == "f16"

    @property
    def _group_size(self) -> int:
        if self.group_size is None:
            return 0 if self._cpu_with_f16 else DEFAULT_GROUP_SIZE
        return self.group_size

    def _config(self, hints: Mapping[str, str | int | None]) -> dict[str, str]:
        threads = self.threads if is_cpu(self.device) else None
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **hints}
        return {name: str(value) for name, value in hints.items() if value is not None}


def is_cpu(device: str) -> bool:
    """Return whether a device name is that of a CPU."""
    return device.split(".", maxsplit=1)[0] == "CPU"
