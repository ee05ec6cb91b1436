"""Checks that the numbers of a manifest are those of its graphs, before anything is compiled or allocated.

``device.check_ports`` checks the ports of the compiled models; here is what their ports do not show.
"""

from __future__ import annotations

import openvino as ov

from vlrun.errors import DamagedModel
from vlrun.manifest import TextDimensions, VisionDimensions


def check_decoder_graph(model: ov.Model, text: TextDimensions, name: str) -> None:
    """Check layers and heads of a stateful decoder, whose layers have two states ``[batch, kv_heads, past, head_dim]``.

    Args:
        model: The graph.
        text: The dimensions in the manifest.
        name: The graph's name for errors.

    Raises:
        DamagedModel: They differ.
    """
    states = model.get_variables()
    if len(states) != 2 * text.layers:
        raise _mismatch(name, "layers", text.layers, len(states) / 2)
    for state in states:
        shape = state.get_info().data_shape
        if not shape.compatible(ov.PartialShape([-1, text.kv_heads, -1, text.head_dim])):
            raise _mismatch(name, "kv_heads and head_dim", f"{text.kv_heads}, {text.head_dim}", shape)


def check_vision_graph(model: ov.Model, vision: VisionDimensions, hidden: int, name: str) -> None:
    """Check the table of learned positions of a vision encoder, and the size of its features.

    An index beyond the table would read foreign memory.

    Args:
        model: The graph.
        vision: The dimensions in the manifest.
        hidden: Hidden size of the decoder.
        name: The graph's name for errors.

    Raises:
        DamagedModel: They differ.
    """
    rows = _table_rows(model, "position_indices")
    if rows is not None and rows != vision.position_side**2:
        raise _mismatch(name, "position_side", vision.position_side, f"{rows} positions")
    for output in model.outputs:
        shape = output.get_partial_shape()
        if "features" in output.get_names() and not shape.compatible(ov.PartialShape([-1, -1, hidden])):
            raise _mismatch(name, "hidden", hidden, shape)


def _table_rows(model: ov.Model, indices: str) -> int | None:
    """Return the rows of the table that an input indexes; None if that cannot be read from the graph."""
    nodes = [node for node in model.get_parameters() if indices in node.output(0).get_names()]
    while nodes:
        target = nodes.pop()
        for consumer in (port.get_node() for port in target.output(0).get_target_inputs()):
            if consumer.get_type_name() == "Gather":
                rows = consumer.input_value(0).get_partial_shape()[0]
                return int(rows.get_length()) if rows.is_static else None
            if consumer.get_type_name() in {"Convert", "Reshape", "Unsqueeze"}:
                nodes.append(consumer)
    return None


def _mismatch(name: str, what: str, expected: object, found: object) -> DamagedModel:
    return DamagedModel(
        f"{name} does not match its manifest ({what}: {expected}, not {found}): export or copy it again"
    )
