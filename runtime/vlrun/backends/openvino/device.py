"""The device: which one, with which hints, and how a model runs on it so that it can be stopped.

Knows OpenVINO; does not know what the models compute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from vlrun.backends.openvino.compile_cache import CompileCache
from vlrun.backends.openvino.hints import Hints
from vlrun.errors import DamagedModel, DeviceError, InferenceCancelled, OptionError

AUTO = "AUTO"
POLL_MS = 50
"""How long it can go unnoticed that nobody waits any more. A finished inference wakes the waiter at once."""


@dataclass(frozen=True)
class Device:
    """A device that is there, with the hints for it; ``blobs``: compiled models of earlier processes; ``compiling``:
    called before each compilation, which takes long and leaves the interpreter to others.
    """

    core: ov.Core
    hints: Hints
    blobs: CompileCache | None = None
    compiling: Callable[[], None] = lambda: None

    def read_model(self, path: Path) -> ov.Model:
        """Read an IR. Raises DamagedModel if OpenVINO cannot."""
        try:
            return self.core.read_model(path)
        except RuntimeError as error:
            raise DamagedModel(
                f"OpenVINO cannot read '{path.name}' in '{path.parent}': export or copy it again"
            ) from error

    def compile_model(self, model: ov.Model, weights: Path, config: Mapping[str, str]) -> ov.CompiledModel:
        """Compile, or take what was compiled before. ``weights``: the file that the model's constants lie in.

        Raises OptionError for a hint that the device does not know, DeviceError if it refuses the model.
        """
        device = self.hints.device
        self.compiling()
        try:
            if self.blobs:
                return self.blobs.compiled(self.core, model, weights, device, config)
            return self.core.compile_model(model, device, dict(config))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            for name, value in config.items():
                if name in str(error):
                    raise OptionError(f"{device} refuses {name}={value}: {reason}") from error
            raise DeviceError(f"{device} refuses the model: {reason}") from error


def open_device(hints: Hints, blobs: CompileCache | None = None) -> Device:
    """The device, if it is there. ``blobs`` are used on all but a CPU, whose plugin compiles fast and does not take a
    decoder under PagedAttention back.

    Raises DeviceError with the names of those that are there.
    """
    core = ov.Core()
    if hints.device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        available = ", ".join(core.available_devices) or "none"
        raise DeviceError(f"there is no device '{hints.device}' here; available: {available}")
    return Device(core, hints, None if hints.device.split(".")[0] == "CPU" else blobs)


def candidates(hints: Hints) -> list[Hints]:
    """What to try in turn: the device itself; for ``AUTO`` an integrated GPU if there is one, then the CPU."""
    if hints.device != AUTO:
        return [hints]
    core = ov.Core()
    gpus = [name for name in core.available_devices if name.split(".")[0] == "GPU" and _integrated(core, name)]
    return [replace(hints, device=name) for name in (*gpus[:1], "CPU")]


def _integrated(core: ov.Core, name: str) -> bool:
    return "INTEGRATED" in str(core.get_property(name, "DEVICE_TYPE")).upper()


def check_ports(compiled: ov.CompiledModel, expected: Mapping[str, Sequence[int]], name: str) -> None:
    """Check that every port of ``expected`` is there with its shape, in which -1 stands for any size, and that the
    compiled model has no cache port besides: what the manifest says must be true before memory is handed over.

    Raises DamagedModel.
    """
    ports = {port_name: port for port in (*compiled.inputs, *compiled.outputs) for port_name in port.get_names()}
    caches = {port_name for port_name in ports if port_name.startswith(("key_cache.", "value_cache."))}
    wrong = caches - expected.keys()
    for port_name, shape in expected.items():
        found = ports[port_name].get_partial_shape() if port_name in ports else ov.PartialShape([])
        if not found.compatible(ov.PartialShape(list(shape))):
            wrong.add(port_name)
    if wrong:
        raise DamagedModel(f"{name} and its manifest do not fit together ('{min(wrong)}'): export or copy it again")


def run(request: ov.InferRequest, inputs: Mapping[str, npt.NDArray[np.generic]], stopped: Callable[[], bool]) -> None:
    """Run one inference on shared inputs. Raises Abandoned, within ``POLL_MS``, when ``stopped`` says so."""
    request.start_async(dict(inputs), share_inputs=True)
    try:
        while not request.wait_for(POLL_MS):
            if stopped():
                raise InferenceCancelled
    except BaseException:  # Ctrl+C too: the inputs must outlive the inference
        request.cancel()
        with contextlib.suppress(RuntimeError):  # says that it was cancelled
            request.wait()
        raise
