"""Inference backends. They implement ``engine.backend.Backend`` and are listed in ``open_backends``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import Backend
from vlrun.errors import DeviceError, OptionError
from vlrun.layout import LAYOUTS, OPENVINO_RUNTIME
from vlrun.models.model_folder import ModelFolder


def open_backends(folder: ModelFolder, hints: Hints, compiling: threading.Event) -> Sequence[Callable[[], Backend]]:
    """Return functions that open the backends to try in order. A backend sets ``compiling`` when its compiler starts.

    Opening may take a second, so a backend is opened only when it is tried.
    """
    backend = backend_of(folder, hints)
    if backend == OPENVINO_RUNTIME:
        from vlrun.backends.openvino.backend import openvino_backends  # imports OpenVINO

        return openvino_backends(folder, hints, compiling)
    try:
        from vlrun.backends.onnxruntime.backend import onnxruntime_backends  # imports ONNX Runtime
    except ModuleNotFoundError as error:
        raise DeviceError("ONNX Runtime is not installed: pip install 'vlrun[onnx]'") from error
    return onnxruntime_backends(folder, hints, compiling)


def backend_of(folder: ModelFolder, hints: Hints) -> str:
    """Return the name of the backend that runs a model folder. Raises OptionError if another one was asked for."""
    backend = LAYOUTS[folder.manifest.layout].backend
    if hints.backend not in (None, backend):
        raise OptionError(
            f"'{folder.name}' was exported for the backend {backend}, which {hints.backend} cannot run: leave out "
            f"--backend, or export the checkpoint again for {hints.backend}"
        )
    return backend
