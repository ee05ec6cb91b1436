"""An OpenVINO device: reading, compiling and running models so that they can be cancelled."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.hints import AUTO, Hints
from vlrun.errors import DamagedModel, DeviceError, InferenceCancelled, OptionError
from vlrun.models.model_folder import ModelFolder

POLL_MS = 50
"""Interval at which a running inference checks for cancellation."""


@dataclass(frozen=True)
class Device:
    """An available device.

    Attributes:
        hints: Device name and properties.
        compile_cache: Compiled models of earlier processes, if this device can import them.
        compiling: Set when the first compilation starts, which takes long and does not hold the GIL.
    """

    core: ov.Core
    hints: Hints
    compile_cache: CompileCache | None = None
    compiling: threading.Event = field(default_factory=threading.Event)

    def read_model(self, folder: ModelFolder, xml: str, weights: str) -> ov.Model:
        """Read an IR and map its weights. Raises DamagedModel."""
        try:
            model = self.core.read_model(folder.opened_path(xml), folder.opened_path(weights))
        except RuntimeError as error:
            folder.check_unchanged(xml, weights)
            raise DamagedModel(f"OpenVINO cannot read '{xml}' in '{folder.name}': export or copy it again") from error
        folder.check_unchanged(xml, weights)
        return model

    def compile_model(self, model: ov.Model, weights: Path, config: Mapping[str, str]) -> ov.CompiledModel:
        """Compile a model, or load it from the compile cache.

        Args:
            model: The model.
            weights: The file of the model's constants.
            config: OpenVINO properties.

        Raises:
            OptionError: The device rejects a property or its value.
            DeviceError: The device rejects the model.
        """
        device = self.hints.device
        self.compiling.set()
        try:
            if self.compile_cache:
                return self.compile_cache.compile_model(self.core, model, weights, device, config)
            return self.core.compile_model(model, device, dict(config))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            for name, value in config.items():
                if name in str(error):
                    raise OptionError(f"{device} refuses {name}={value}: {reason}") from error
            raise DeviceError(f"{device} refuses the model: {reason}") from error


def open_device(
    hints: Hints, compile_cache: CompileCache | None = None, compiling: threading.Event | None = None
) -> Device:
    """Open the device of ``hints``. Raises DeviceError if it is not available.

    The CPU plugin gets no compile cache: it compiles fast and cannot import a PagedAttention decoder.
    """
    core = ov.Core()
    if hints.device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        available = ", ".join(core.available_devices) or "none"
        raise DeviceError(f"there is no device '{hints.device}'; available: {available}")
    cache = None if hints.device.split(".")[0] == "CPU" else compile_cache
    return Device(core, hints, cache, compiling or threading.Event())


def candidates(hints: Hints) -> list[Hints]:
    """Return the devices to try in order; for ``AUTO`` an integrated GPU if there is one, then the CPU."""
    if hints.device != AUTO:
        return [hints]
    core = ov.Core()
    gpus = [name for name in core.available_devices if name.split(".")[0] == "GPU" and _is_integrated(core, name)]
    return [*(replace(hints, device=name) for name in gpus[:1]), hints.on_cpu()]


def _is_integrated(core: ov.Core, name: str) -> bool:
    return "INTEGRATED" in str(core.get_property(name, "DEVICE_TYPE")).upper()


def check_ports(model: ov.Model | ov.CompiledModel, expected: Mapping[str, Sequence[int]], name: str) -> None:
    """Check the ports of a model before memory is passed to it. Raises DamagedModel.

    Every port of ``expected`` must exist with its shape (-1: any size), and there must be no other cache port.
    """
    ports = {port_name: port for port in (*model.inputs, *model.outputs) for port_name in port.get_names()}
    caches = {port_name for port_name in ports if port_name.startswith(("key_cache.", "value_cache."))}
    wrong = caches - expected.keys()
    for port_name, shape in expected.items():
        found = ports[port_name].get_partial_shape() if port_name in ports else ov.PartialShape([])
        if not found.compatible(ov.PartialShape(list(shape))):
            wrong.add(port_name)
    if wrong:
        raise DamagedModel(f"{name} does not match its manifest ('{min(wrong)}'): export or copy it again")


def run(request: ov.InferRequest, inputs: Mapping[str, npt.NDArray[np.generic]], stopped: Callable[[], bool]) -> None:
    """Run one inference on shared inputs. Raises InferenceCancelled within ``POLL_MS`` when ``stopped``."""
    request.start_async(dict(inputs), share_inputs=True)
    try:
        while not request.wait_for(POLL_MS):
            if stopped():
                raise InferenceCancelled
    except BaseException:  # including Ctrl+C: the inputs must outlive the inference
        request.cancel()
        with contextlib.suppress(RuntimeError):  # reports that it was cancelled
            request.wait()
        raise
