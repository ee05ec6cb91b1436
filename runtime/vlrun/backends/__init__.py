"""Inference backends. They implement ``engine.backend.Backend`` and are listed in ``open_backends``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import Backend
from vlrun.models.model_folder import ModelFolder


def open_backends(folder: ModelFolder, hints: Hints, compiling: threading.Event) -> Sequence[Callable[[], Backend]]:
    """Return functions that open the backends to try in order. A backend sets ``compiling`` when its compiler starts.

    Opening may take a second, so a backend is opened only when it is tried.
    """
    from vlrun.backends.openvino.backend import openvino_backends  # imports OpenVINO

    return openvino_backends(folder, hints, compiling)
