"""Inference backends, which implement the protocols of ``engine.backend`` and are registered in ``open_backends``."""

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
    """Return the backends that may run a model folder, in the order to try.

    Args:
        folder: The model folder.
        manifest: Its manifest.
        fingerprint: Its fingerprint.
        hints: Device and properties.
        compiling: Set by the backend when its compiler starts.
    """
    from vlrun.backends.openvino.backend import openvino_backends  # imports OpenVINO

    return openvino_backends(folder, manifest, fingerprint, hints, compiling)
