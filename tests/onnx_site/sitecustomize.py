"""Makes the ONNX form of the embedded model the embedded model of every Python process that a test starts."""

import os
from pathlib import Path

try:
    import vlrun.embedded
except ModuleNotFoundError:  # a process that does not use vlrun
    pass
else:
    vlrun.embedded.FOLDER = Path(os.environ["VLRUN_TEST_FOLDER"])
