"""The workbench: turns a Qwen3-VL checkpoint into a model folder that ``vlrun`` runs.

Needs torch, transformers, optimum and NNCF (``pip install 'vlrun[export]'``). Importing this package loads none of
them.
"""

import sys

# NNCF and OpenVINO's converter report their use to a server without asking, unless this package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
