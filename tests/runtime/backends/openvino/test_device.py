"""Selecting a device: AUTO, unavailable devices, and refused properties."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vlrun import Hints, Options, load
from vlrun.backends.openvino.device import candidates
from vlrun.errors import DeviceError, OptionError


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
    assert candidates(Hints(device="GPU.0")) == [Hints(device="GPU.0")]


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
