"""Exports a Qwen3-VL checkpoint to a model folder that ``vlrun`` runs.

Needs torch, transformers, optimum and NNCF (``pip install 'vlrun[export]'``). Importing this package loads none of
them.
"""

import sys

# NNCF and OpenVINO's converter send usage data to a server by default, unless this package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
