"""An OpenVINO device: reading, compiling and running models so that they can be cancelled."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.hints import AUTO, Hints, is_cpu
from vlrun.errors import DamagedModel, DeviceError, InferenceCancelled, OptionError, reason_of
from vlrun.models.model_folder import ModelFolder

RUNTIME_REQUIREMENTS = "RUNTIME_REQUIREMENTS"
NPU_REASON = "OpenVINO's NPU plugin supports neither PagedAttention nor shapes that change"
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

    def compile_model(
        self, model: ov.Model, folder: ModelFolder, weights: Sequence[str], config: Mapping[str, str]
    ) -> ov.CompiledModel:
        """Compile a model, or load it from the compile cache, which takes models with one file of weights.

        Args:
            model: The model.
            folder: The model folder.
            weights: Names of the files of the model's constants.
            config: OpenVINO properties.

        Raises:
            OptionError: The device rejects a property or its value.
            DeviceError: The device rejects the model.
            ModelChanged: The file of the constants was changed.
        """
        device = self.hints.device
        self.compiling.set()
        try:
            path, check = folder.named_path(weights[0]), partial(folder.check_unchanged, *weights)
            if self.compile_cache and path and len(weights) == 1:
                return self.compile_cache.compile_model(self.core, model, path, device, config, check)
            return self.core.compile_model(model, device, dict(config))
        except RuntimeError as error:
            reason = reason_of(error)
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
    check_available(core, hints.device)
    return Device(core, hints, None if is_cpu(hints.device) else compile_cache, compiling or threading.Event())


def check_available(core: ov.Core, device: str) -> None:
    """Raise DeviceError if a device does not exist, or cannot run any of vlrun's models."""
    if device.split(".", maxsplit=1)[0] == "NPU":
        raise DeviceError(f"vlrun cannot use the {device}: {NPU_REASON}; use --device CPU, GPU or auto")
    available = core.available_devices
    try:
        found = device.split(".", maxsplit=1)[0] in {name.split(".")[0] for name in available}
        found = found and bool(core.get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError:  # a number that no device has
        found = False
    if not found:
        raise DeviceError(f"there is no device '{device}'; available: {', '.join(available) or 'none'}")


def runtime_of(core: ov.Core, device: str) -> str | None:
    """Return the versions of OpenVINO and the driver that compiled models depend on; None if they are unknown.

    Only compiled models tell, so this compiles a model without operations.
    """
    parameter = opset13.parameter([1], np.float32)
    try:
        compiled = core.compile_model(ov.Model([parameter.output(0)], [parameter]), device)
        if RUNTIME_REQUIREMENTS not in compiled.get_property("SUPPORTED_PROPERTIES"):
            return None
        return str(compiled.get_property(RUNTIME_REQUIREMENTS))
    except RuntimeError as error:
        raise DeviceError(f"{device} does not work: {reason_of(error)}") from error


def candidates(hints: Hints) -> list[Hints]:
    """Return the devices to try in order.

    For ``AUTO`` an integrated GPU if there is one, then the CPU. The CPU also takes over from a GPU that was asked for
    and gives wrong results.
    """
    if is_cpu(hints.device):
        return [hints]
    if hints.device != AUTO:
        return [hints, hints.on_cpu()]
    core = ov.Core()
    gpus = [name for name in core.available_devices if name.split(".")[0] == "GPU" and _is_integrated(core, name)]
    return [*(replace(hints, device=name) for name in gpus[:1]), hints.on_cpu()]


def _is_integrated(core: ov.Core, name: str) -> bool:
    with contextlib.suppress(RuntimeError):  # a broken driver: the CPU works
        return "INTEGRATED" in str(core.get_property(name, "DEVICE_TYPE")).upper()
    return False


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
