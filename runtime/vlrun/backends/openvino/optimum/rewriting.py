"""Small steps of rewriting a graph with OpenVINO's model API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import openvino as ov
from openvino import opset13


class UnknownGraph(Exception):
    """A graph is not of the form that its file name promises; the message says what is missing."""


def input_named(model: ov.Model, name: str) -> ov.Node:
    """Return the Parameter of a name. Raises UnknownGraph."""
    for parameter in model.get_parameters():
        if name in parameter.output(0).get_names():
            return parameter
    raise UnknownGraph(f"it has no input '{name}'")


def output_named(model: ov.Model, name: str) -> ov.Node:
    """Return the Result of a name. Raises UnknownGraph."""
    for result in model.get_results():
        if name in result.input_value(0).get_names() or name in result.output(0).get_names():
            return result
    raise UnknownGraph(f"it has no output '{name}'")


def only_input(model: ov.Model) -> ov.Node:
    """Return the one Parameter of a model. Raises UnknownGraph."""
    if len(model.inputs) != 1:
        raise UnknownGraph(f"it has {len(model.inputs)} inputs instead of one")
    parameter: ov.Node = model.get_parameters()[0]
    return parameter


def only_output(model: ov.Model) -> ov.Output:
    """Return what the one Result of a model returns. Raises UnknownGraph."""
    if len(model.outputs) != 1:
        raise UnknownGraph(f"it has {len(model.outputs)} outputs instead of one")
    output: ov.Output = model.get_results()[0].input_value(0)
    return output


def new_input(model: ov.Model, name: str, shape: Sequence[int], kind: ov.Type) -> ov.Node:
    """Add an input to a model and return its Parameter."""
    parameter: ov.Node = opset13.parameter(ov.PartialShape(list(shape)), kind, name=name)
    parameter.output(0).set_names({name})
    model.add_parameters([parameter])
    return parameter


def replace(old: ov.Output, new: ov.Output) -> None:
    """Let the consumers of an output read another one."""
    for consumer in old.get_target_inputs():
        consumer.replace_source_output(new)


def consumers(node: ov.Node) -> list[ov.Node]:
    """Return the nodes that read any output of a node."""
    return [port.get_node() for output in node.outputs() for port in output.get_target_inputs()]


def after(nodes: Iterable[ov.Node]) -> Iterator[ov.Node]:
    """Yield all nodes that depend on some nodes, nearest first."""
    waiting, known = list(nodes), set[str]()
    while waiting:
        for consumer in consumers(waiting.pop(0)):
            if consumer.get_name() not in known:
                known.add(consumer.get_name())
                waiting.append(consumer)
                yield consumer
