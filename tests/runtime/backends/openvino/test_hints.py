"""OpenVINO properties that follow from the hints."""

from __future__ import annotations

import pytest

from vlrun.backends.openvino.hints import Hints


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
