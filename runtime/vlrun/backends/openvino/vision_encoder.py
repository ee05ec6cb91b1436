"""The vision encoder on an OpenVINO device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np

from vlrun.backends.openvino.device import Device, check_ports, run
from vlrun.backends.openvino.graph_check import check_vision_graph
from vlrun.backends.openvino.graphs import read_vision
from vlrun.backends.openvino.mapped_weights import MappedWeights
from vlrun.backends.openvino.stale_shapes import StaleShapes
from vlrun.backends.system_memory import trim_heap
from vlrun.errors import DamagedModel, DeviceError, reason_of
from vlrun.manifest import VisionDimensions
from vlrun.models.family import ModelFamily, encoder_input_shapes
from vlrun.models.model_folder import ModelFolder
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches, VisionEncoder

MAX_SHAPES = 2
"""Compiled models that ``StaticVisionEncoder`` keeps; each has the weights in memory."""


class OpenVINOVisionEncoder:
    """The compiled vision encoder of a model folder, for images of any size or of ``patches`` patches."""

    def __init__(
        self,
        device: Device,
        folder: ModelFolder,
        vision: VisionDimensions,
        family: ModelFamily,
        patches: int | None = None,
    ) -> None:
        graph = read_vision(device, folder)
        model, self._name = graph.model, graph.name
        self._check_weights = partial(folder.check_unchanged, *graph.weights)
        check_ports(model, expected_ports(vision), self._name)
        check_vision_graph(model, vision, folder.manifest.text.hidden, self._name)
        if patches:
            model.reshape({name: _static(shape, patches) for name, shape in encoder_input_shapes(vision).items()})
        self._device = device.hints.device
        self._vision = vision
        self._family = family
        self._lock = threading.Lock()
        self._shapes = None if patches else StaleShapes()
        self._mapped: MappedWeights | None = MappedWeights(model)
        with self._mapped:
            self._compiled = device.compile_model(model, folder, graph.weights, device.hints.vision_config())
        self._request = self._compiled.create_infer_request()

    def warm_up(self) -> None:
        """Encode one visual token if nothing was encoded yet, so that the plugin repacks the weights now.

        Raises DeviceError.
        """
        try:
            if self._mapped:
                self.encode(self._blank(self._vision.merge**2), lambda: False)
        except RuntimeError as error:
            raise DeviceError(
                f"{self._device} compiles the vision encoder but cannot run it: {reason_of(error)}"
            ) from error

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        """Encode one image.

        Raises InferenceCancelled when ``stopped``, and ModelChanged if the file of the weights was changed.
        """
        with self._lock:
            self._check_weights()  # a shorter file would end the process
            try:
                with self._mapped or nullcontext():
                    self._run(patches, stopped)
                self._check_weights()
                features = ImageFeatures(self._request.get_output_tensor(0).data.copy())
                if self._mapped:
                    self._mapped.own()
                self._mapped = None
                if features.tokens != patches.grid.tokens:
                    raise DamagedModel(f"{self._name} does not match its manifest (merge): export or copy it again")
            finally:
                self._compiled.release_memory()  # half the size of the weights for a 1024 x 768 image
        trim_heap()
        return features

    def _run(self, patches: Patches, stopped: Callable[[], bool]) -> None:
        size = self._shapes.repairing_size(self._vision.merge**2) if self._shapes else None
        if size:
            self._run_once(self._blank(size), lambda: False)
        self._run_once(patches, stopped)

    def _run_once(self, patches: Patches, stopped: Callable[[], bool]) -> None:
        inputs = self._family.patch_positions(patches.grid, self._vision).encoder_inputs(patches.pixels)
        with self._shapes.inference(patches.grid.patches) if self._shapes else nullcontext():
            run(self._request, inputs, stopped)

    def _blank(self, patches: int) -> Patches:
        """Return a blank image of so many patches, one visual token high."""
        grid = Grid(self._vision.merge, patches // self._vision.merge, self._vision.merge)
        values = 3 * self._vision.temporal_patch * self._vision.patch**2
        return Patches(np.zeros((patches, values), np.float32), grid)


class StaticVisionEncoder:
    """A vision encoder that is compiled for each number of patches, for devices that fail where shapes are dynamic.

    Args:
        open_encoder: Opens the encoder for a number of patches.
    """

    def __init__(self, open_encoder: Callable[[int], VisionEncoder]) -> None:
        self._open = open_encoder
        self._encoders: dict[int, VisionEncoder] = {}
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Do nothing: the weights are repacked for each shape."""

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        """Encode one image. Raises InferenceCancelled when ``stopped``, but only after compiling."""
        with self._lock:
            count = patches.grid.patches
            encoder = self._encoders.pop(count, None) or self._open(count)
            self._encoders[count] = encoder  # now the most recently used
            while len(self._encoders) > MAX_SHAPES:
                del self._encoders[next(iter(self._encoders))]
        return encoder.encode(patches, stopped)


def expected_ports(vision: VisionDimensions) -> dict[str, list[int]]:
    """Return the port shapes that the manifest implies."""
    return {**encoder_input_shapes(vision), "features": [1 + vision.deepstack, -1, -1]}


def _static(shape: Sequence[int], patches: int) -> list[int]:
    return [patches if size == -1 else size for size in shape]
