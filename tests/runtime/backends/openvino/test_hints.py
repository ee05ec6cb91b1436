"""Hints: combinations that crash are refused, and what is left open gets a safe value."""

from __future__ import annotations

from typing import Any

import pytest

from vlrun.backends.openvino.hints import Hints
from vlrun.errors import OptionError

PRECISIONS = (None, "f32", "bf16", "f16")


@pytest.mark.parametrize("device", ["CPU", "cpu", "CPU.0", "GPU", "AUTO"])
@pytest.mark.parametrize("decoder", PRECISIONS)
@pytest.mark.parametrize("group_size", [None, 0, 1, 32, 128, 256, 2048])
def test_a_decoder_in_f16_never_quantizes_dynamically_on_a_cpu(
    device: str, decoder: str | None, group_size: int | None
) -> None:
    """Guards against a SIGSEGV in the CPU plugin. GPUs run f16; a CPU that replaces one gets a safe group size."""
    given: dict[str, Any] = {"device": device, "decoder_precision": decoder, "group_size": group_size}
    if device.upper().startswith("CPU") and decoder == "f16" and group_size:
        with pytest.raises(OptionError, match=f"decoder precision f16 with group size {group_size} crashes"):
            Hints(**given)
        return
    hints = Hints(**given)
    for used in (hints, hints.on_cpu()):
        config = used.decoder_config()
        unsafe = used.device.startswith("CPU") and config.get("INFERENCE_PRECISION_HINT") == "f16"
        assert not unsafe or config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == "0"
    assert hints.decoder_config().get("DYNAMIC_QUANTIZATION_GROUP_SIZE") == str(
        group_size if group_size is not None else 0 if decoder == "f16" and device.upper().startswith("CPU") else 128
    )


def test_hints_are_described_for_users() -> None:
    assert Hints().describe() == (
        "decoder f32, vision encoder as the plugin chooses, KV cache u8, groups of 128, all cores"
    )
    exact = Hints(vision_precision="f32", kv_precision="f32", group_size=0, threads=4)
    assert exact.describe() == "decoder f32, vision encoder f32, KV cache f32, no dynamic quantization, 4 threads"
    assert Hints(threads=1).describe().endswith(", 1 thread")


@pytest.mark.parametrize("device", ["CPU", "GPU", "gpu.1"])
def test_8_bit_keys_are_quantized_by_token_on_every_device(device: str) -> None:
    """By channel, results depend on how the past was split, and the GPU plugin refuses the block size."""
    for precision in (None, "u8"):
        assert Hints(device=device, kv_precision=precision).decoder_config()["KEY_CACHE_QUANT_MODE"] == "BY_TOKEN"
    for precision in ("f16", "f32"):
        assert "KEY_CACHE_QUANT_MODE" not in Hints(device=device, kv_precision=precision).decoder_config()


def test_threads_are_for_the_cpu() -> None:
    """A GPU refuses the property, so ``--threads`` made ``--device auto`` fall back to the CPU."""
    for device, expected in (("CPU", "2"), ("GPU", None), ("GPU.0", None)):
        hints = Hints(device=device, threads=2)
        for config in (hints.decoder_config(), hints.vision_config()):
            assert config.get("INFERENCE_NUM_THREADS") == expected
