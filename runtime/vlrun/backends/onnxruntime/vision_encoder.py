"""The vision encoder on ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from vlrun.backends.onnxruntime.session import open_graph
from vlrun.errors import DamagedModel
from vlrun.models.family import encoder_input_shapes
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches


class ONNXRuntimeVisionEncoder:
    """The vision encoder of a model folder, for images of any size."""

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        self._vision = vision = folder.manifest.vision
        self._family = family_of(folder.manifest)
        self._width = 3 * vision.temporal_patch * vision.patch**2
        features = [1 + vision.deepstack, -1, folder.manifest.text.hidden]
        ports = {**encoder_input_shapes(vision), "features": features}
        self._graph = open_graph(folder, "vision", threads, ports)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Encode one visual token."""
        grid = Grid(self._vision.merge, self._vision.merge, self._vision.merge)
        self.encode(Patches(np.zeros((grid.patches, self._width), np.float32), grid), lambda: False)

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        """Encode one image.

        Raises InferenceCancelled when ``stopped``, and ModelChanged if the file of the weights was changed.
        """
        positions = self._family.patch_positions(patches.grid, self._vision)
        binding = self._graph.session.io_binding()
        for name, value in positions.encoder_inputs(patches.pixels).items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.bind_output("features", "cpu")
        with self._lock:
            self._graph.run(binding, stopped, shrink=True)
        features = ImageFeatures(binding.get_outputs()[0].numpy().copy())
        if features.tokens != patches.grid.tokens:
            raise DamagedModel(f"{self._graph.name} does not match its manifest (merge): export or copy it again")
        return features
