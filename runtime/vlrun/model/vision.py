"""The vision encoder on a device: patches of one picture in, visual tokens with their DeepStack rows out.

Knows tensors; knows no file format and no prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from vlrun.errors import DeviceError
from vlrun.manifest import VISION_BIN, VISION_XML, VisionDimensions
from vlrun.model.device import Hints, check_ports, compile_model, read_model, run
from vlrun.model.memory import MappedWeights
from vlrun.model.patches import Patches
from vlrun.model.positions import FloatArray, Grid, patch_positions


class VisionEncoder:
    """The compiled vision encoder of a model folder."""

    def __init__(self, core: ov.Core, folder: Path, vision: VisionDimensions, hints: Hints) -> None:
        model = read_model(core, folder / VISION_XML)
        self._vision = vision
        self._lock = threading.Lock()
        with MappedWeights(model, folder / VISION_BIN):
            self._open(core, model, folder, hints)
            self._warm_up()

    def _open(self, core: ov.Core, model: ov.Model, folder: Path, hints: Hints) -> None:
        """Compile the model."""
        vision = self._vision
        compiled = compile_model(core, model, hints, hints.vision_config())
        head_dim = vision.hidden // vision.heads
        expected = {
            "patches": [-1, 3 * vision.temporal_patch * vision.patch**2],
            "position_indices": [4, -1],
            "position_weights": [4, -1],
            "rotary_cos": [-1, head_dim],
            "rotary_sin": [-1, head_dim],
            "features": [1 + vision.deepstack, -1, -1],
        }
        check_ports(compiled, expected, f"'{VISION_XML}' in '{folder}'")
        self._request = compiled.create_infer_request()

    def _warm_up(self) -> None:
        """Encode one token: the plugin makes its own copy of the weights when it first runs. Raises DeviceError."""
        grid = Grid(self._vision.merge, self._vision.merge, self._vision.merge)
        pixels = np.zeros((grid.patches, 3 * self._vision.temporal_patch * self._vision.patch**2), np.float32)
        try:
            self.encode(Patches(pixels, grid), lambda: False)
        except RuntimeError as error:
            raise DeviceError(f"the device compiles the vision encoder and cannot run it: {error}") from error

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> FloatArray:
        """Image features ``[1 + deepstack, tokens, hidden]``: row 0 embeddings, the others DeepStack.

        Raises Abandoned when ``stopped``.
        """
        vision = self._vision
        positions = patch_positions(
            patches.grid, vision.position_side, vision.hidden // vision.heads, vision.rope_theta
        )
        inputs: dict[str, npt.NDArray[np.generic]] = {
            "patches": patches.pixels,
            "position_indices": positions.indices,
            "position_weights": positions.weights,
            "rotary_cos": positions.cos,
            "rotary_sin": positions.sin,
        }
        with self._lock:
            run(self._request, inputs, stopped)
            features: FloatArray = self._request.get_output_tensor(0).data.copy()
        return features
