"""Reads the graphs of decoder and vision encoder from a model folder of any layout, in the form of vlrun's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov

from vlrun.backends.openvino.device import Device
from vlrun.backends.openvino.optimum.decoder import join_decoder
from vlrun.backends.openvino.optimum.rewriting import UnknownGraph
from vlrun.backends.openvino.optimum.vision import join_vision
from vlrun.errors import ForeignModel
from vlrun.layout import LAYOUTS, OPTIMUM, Layout
from vlrun.models.model_folder import ModelFolder


@dataclass(frozen=True)
class Graph:
    """A graph, the files of its weights, and its name for messages."""

    model: ov.Model
    weights: tuple[str, ...]
    name: str


def read_decoder(device: Device, folder: ModelFolder) -> Graph:
    """Return the stateful decoder. Raises DamagedModel, and ForeignModel for a graph of unknown form."""
    layout, manifest = LAYOUTS[folder.manifest.layout], folder.manifest
    models, graph = _read(device, folder, layout, layout.decoder)
    if layout != OPTIMUM:
        return graph
    try:
        join_decoder(models[0], models[1], manifest.text.hidden, manifest.vision.deepstack)
    except (UnknownGraph, RuntimeError) as error:
        raise _unknown(graph.name, error) from error
    return graph


def read_vision(device: Device, folder: ModelFolder) -> Graph:
    """Return the vision encoder. Raises DamagedModel, and ForeignModel for a graph of unknown form."""
    layout = LAYOUTS[folder.manifest.layout]
    models, graph = _read(device, folder, layout, layout.vision)
    if layout != OPTIMUM:
        return graph
    try:
        join_vision(models[0], models[1], models[2], folder.manifest.vision)
    except (UnknownGraph, RuntimeError) as error:
        raise _unknown(graph.name, error) from error
    return graph


def _read(device: Device, folder: ModelFolder, layout: Layout, names: Sequence[str]) -> tuple[list[ov.Model], Graph]:
    """Return all graphs of a part, and the first one, into which the others are to be joined."""
    models = [device.read_model(folder, layout.graph_file(name), layout.weights_file(name)) for name in names]
    weights = tuple(layout.weights_file(name) for name in names)
    return models, Graph(models[0], weights, f"'{layout.graph_file(names[0])}' in '{folder.name}'")


def _unknown(name: str, error: Exception) -> ForeignModel:
    reason = error if isinstance(error, UnknownGraph) else "OpenVINO rejects the joined graph"
    return ForeignModel(f"{name} or a graph beside it is not what optimum-intel writes for this family ({reason})")
