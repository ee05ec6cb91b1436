"""The OpenVINO backend.

``import openvino`` sends a telemetry event without asking (``openvino/tools/ovc/__init__.py``). vlrun sends nothing, so
it hides the telemetry package, and OpenVINO falls back to its stub.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes the import fail
