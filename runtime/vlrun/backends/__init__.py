"""Inference backends. They implement ``engine.backend.Backend`` and are listed in ``open_backends``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import Backend
from vlrun.manifest import Manifest


def open_backends(
    folder: Path, manifest: Manifest, fingerprint: str, hints: Hints, compiling: threading.Event
) -> Sequence[Backend]:
    """Return the backends to try in order. A backend sets ``compiling`` when its compiler starts."""
    from vlrun.backends.openvino.backend import openvino_backends  # imports OpenVINO

    return openvino_backends(folder, manifest, fingerprint, hints, compiling)
