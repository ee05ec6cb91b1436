"""The user's choice of device and OpenVINO properties. Does not import OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlrun.arguments import check_fields, instance, optional, text, whole_number
from vlrun.errors import OptionError

AUTO = "AUTO"
"""Device name for the automatic choice."""


@dataclass(frozen=True)
class Hints:
    """The device and OpenVINO properties; None leaves a choice to the plugin.

    The defaults were the fastest for INT8 weights on server and client CPUs (docs/performance.md): activations
    quantized in groups of 128, an 8-bit KV cache, and f32 inference for the decoder, which beats bf16 even on CPUs that
    have it. For the vision encoder the plugin chooses bf16 where the CPU has it.

    Attributes:
        device: CPU, GPU, or AUTO: an integrated GPU if there is one and it accepts the model, else the CPU.
            ``VLM.notes`` reports the choice.
        threads: CPU threads.
        decoder_precision: Inference precision of the decoder.
        vision_precision: Inference precision of the vision encoder.
        kv_precision: Element type of the KV cache.
        group_size: Group size of dynamic quantization; 0 turns it off.
    """

    device: str = "CPU"
    threads: int | None = None
    decoder_precision: str | None = "f32"
    vision_precision: str | None = None
    kv_precision: str | None = "u8"
    group_size: int | None = 128

    def __post_init__(self) -> None:
        precisions = ("decoder_precision", "vision_precision", "kv_precision")
        counts = ("threads", "group_size")
        checks = dict.fromkeys(precisions, optional(text)) | dict.fromkeys(counts, optional(whole_number))
        check_fields(self, {"device": instance(str, "a name such as CPU"), **checks})
        if (self.threads is not None and self.threads < 1) or (self.group_size or 0) < 0:
            raise OptionError("threads must be at least 1, and group_size at least 0")
        object.__setattr__(self, "device", self.device.upper())

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
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": self.group_size,
            }
        )

    def vision_config(self) -> dict[str, str]:
        """Return the OpenVINO properties of the vision encoder."""
        return self._config(
            {"INFERENCE_PRECISION_HINT": self.vision_precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": self.group_size}
        )

    def _config(self, hints: Mapping[str, str | int | None]) -> dict[str, str]:
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads, **hints}
        return {name: str(value) for name, value in hints.items() if value is not None}
