"""Selecting a device: AUTO, unavailable devices, and refused properties."""

from __future__ import annotations

from types import SimpleNamespace

import openvino as ov
import pytest

from vlrun import Hints, Options, load
from vlrun.backends.openvino.backend import OpenVINOBackend
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import candidates, check_available
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.errors import DeviceError, OptionError, UnreliableDevice


@pytest.mark.slow
def test_unavailable_devices_and_refused_properties_are_reported() -> None:
    with pytest.raises(DeviceError, match="no device 'GPU'; available: CPU"):
        load(hints=Hints(device="GPU"))
    with pytest.raises(OptionError, match="KV_CACHE_PRECISION=u7"):
        load(hints=Hints(kv_precision="u7"))


def test_auto_prefers_an_integrated_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    types = {"GPU.0": "Type.DISCRETE", "GPU.1": "Type.INTEGRATED"}
    core = SimpleNamespace(available_devices=["CPU", *types], get_property=lambda name, _: types[name])
    monkeypatch.setattr("openvino.Core", lambda: core)
    assert [hints.device for hints in candidates(Hints(device="AUTO"))] == ["GPU.1", "CPU"]
    assert [hints.device for hints in candidates(Hints(device="GPU.0"))] == ["GPU.0", "CPU"]
    assert candidates(Hints()) == [Hints()]


def test_auto_passes_over_a_gpu_whose_driver_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("[GPU] clGetDeviceInfo, error code: -33")

    core = SimpleNamespace(available_devices=["CPU", "GPU"], get_property=broken)
    monkeypatch.setattr("openvino.Core", lambda: core)
    assert [hints.device for hints in candidates(Hints(device="AUTO"))] == ["CPU"]


def test_an_npu_is_refused_with_the_reason() -> None:
    """Whether there is one or not: it could not run the model."""
    for name in ("NPU", "NPU.3720"):
        with pytest.raises(DeviceError, match=f"cannot use the {name}: OpenVINO's NPU plugin supports neither Paged"):
            check_available(ov.Core(), name)


@pytest.mark.parametrize("name", ["GPU", "HETERO:GPU,CPU", "MULTI:CPU", "BATCH:CPU", "", "CPU "])
def test_other_names_that_openvino_knows_are_no_devices(name: str) -> None:
    """Guards against a device number that nothing has, which was refused with OpenVINO's exception."""
    with pytest.raises(DeviceError, match=f"no device '{name}'; available: CPU$"):
        check_available(ov.Core(), name)


class StraysOnTheGPU(OpenVINOBackend):
    """A GPU whose decoder fails."""

    error: DeviceError = UnreliableDevice("the decoder's results on GPU differ")

    def open_decoder(self, memory: int) -> OpenVINODecoder:
        raise self.error

    def open_vision_encoder(self) -> OpenVINOVisionEncoder:
        raise self.error


@pytest.mark.slow
@pytest.mark.parametrize("device", ["GPU", "AUTO"])
def test_the_cpu_takes_over_from_a_gpu_with_wrong_results(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """In words, for an explicit device too; but a GPU that refuses the model is an error unless AUTO may choose."""
    monkeypatch.setattr("vlrun.backends.openvino.backend.CheckedBackend", StraysOnTheGPU)
    given = [Hints(device="GPU"), Hints()]
    monkeypatch.setattr("vlrun.backends.openvino.backend.candidates", lambda _: given)
    with load(hints=Hints(device=device)) as vlm:
        assert vlm.device == "CPU"
        assert vlm.notes == (f"device {device}: using the CPU, because the decoder's results on GPU differ",)
        assert vlm.ask([], "Hi", Options(max_tokens=2)).usage.completion_tokens
    if device == "GPU":
        monkeypatch.setattr(StraysOnTheGPU, "error", DeviceError("GPU refuses the model"))
        with pytest.raises(DeviceError, match="GPU refuses the model"):
            load(hints=Hints(device=device))


@pytest.mark.slow
def test_auto_without_a_gpu_uses_the_cpu_and_adds_a_note() -> None:
    """Guards against a silent fallback."""
    with load(hints=Hints(device="AUTO")) as vlm:
        assert vlm.notes == ("device AUTO: using the CPU, because this machine has no integrated GPU",)
        assert vlm.ask([], "Hi", Options(max_tokens=2)).usage.completion_tokens
    with load() as vlm:
        assert vlm.notes == ()


@pytest.mark.slow
def test_auto_falls_back_from_a_failing_gpu_and_adds_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = [Hints(device="GPU.1"), Hints()]
    monkeypatch.setattr("vlrun.backends.openvino.backend.candidates", lambda _: hints)
    with load(hints=Hints(device="AUTO")) as vlm:
        (note,) = vlm.notes
    assert note.startswith("device AUTO: using the CPU, because there is no device 'GPU.1'")
