"""The OpenVINO backend.

Importing OpenVINO reports the import over the network without asking (``openvino/tools/ovc/__init__.py`` sends an event
with the consent dialog off). A device that works offline must not: OpenVINO finds no telemetry package here and uses
its own stub.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes the import fail
