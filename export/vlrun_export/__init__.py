"""Exports a Qwen3-VL checkpoint to a vlrun model folder.

Needs torch, transformers and NNCF (the extra ``export``), but importing this package loads none of them.
"""

import sys

# NNCF and OpenVINO's converter send usage data by default, unless this package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
