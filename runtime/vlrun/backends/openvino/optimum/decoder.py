"""The decoder from optimum's language model and text embeddings, with the inputs and the output of vlrun's own.

optimum's language model takes embeddings, DeepStack rows of the visual tokens only and a mask, and returns the logits
of all tokens. The joined graph takes token ids, dense visual features, and the rows whose logits are wanted: the head,
which is a fifth of the work, then runs for these only.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.optimum.rewriting import (
    UnknownGraph,
    after,
    consumers,
    input_named,
    new_input,
    only_input,
    only_output,
    output_named,
    replace,
)

ZERO = np.int64(0)


def join_decoder(language: ov.Model, embeddings: ov.Model, hidden: int, deepstack: int) -> ov.Model:
    """Join both models in the first one, and return it.

    Args:
        language: optimum's stateful language model.
        embeddings: optimum's text embeddings.
        hidden: Size of the hidden states.
        deepstack: Number of DeepStack rows.

    Raises:
        UnknownGraph: One of them has another form.
    """
    ids = new_input(language, "input_ids", [-1, -1], ov.Type.i64)
    features = new_input(language, "visual_features", [1 + deepstack, -1, -1, hidden], ov.Type.f32)
    mask = new_input(language, "visual_mask", [-1, -1, 1], ov.Type.f32)
    replace(only_input(embeddings).output(0), ids.output(0))
    visual = opset13.greater(mask, np.float32(0))
    embedded = opset13.select(visual, _row(features, 0), only_output(embeddings))
    _replace_input(language, "inputs_embeds", embedded)
    _add_deepstack(language, features, mask, deepstack)
    _gather_rows(language, hidden)
    language.validate_nodes_and_infer_types()
    return language


def _add_deepstack(language: ov.Model, features: ov.Node, mask: ov.Node, deepstack: int) -> None:
    """Add dense DeepStack rows after the first layers, in place of the rows of the visual tokens."""
    sparse, positions = (input_named(language, name) for name in ("deepstack_visual_embeds", "visual_pos_masks"))
    rows = sorted(
        (_constant(node.input_value(1)), node)
        for node in consumers(sparse)
        if node.get_type_name() == "Gather" and node.input_value(0).get_node().get_name() == sparse.get_name()
    )
    if [level for level, _ in rows] != list(range(deepstack)):
        raise UnknownGraph(f"it adds DeepStack rows {[level for level, _ in rows]} instead of {deepstack}")
    for level, row in rows:
        before, behind = _addition(row)
        dense = opset13.multiply(_row(features, 1 + level), mask)
        users = behind.get_target_inputs()
        added = opset13.add(before, dense)
        for user in users:
            user.replace_source_output(added.output(0))
    for parameter in (sparse, positions):
        language.remove_parameter(parameter)


def _addition(row: ov.Node) -> tuple[ov.Output, ov.Output]:
    """Return the hidden states before and after a DeepStack row is added to them.

    optimum-intel from 2.2 on spreads the row over all tokens and adds it. Before, it gathered the hidden states of the
    visual tokens, added the row, and scattered the sums.
    """
    chain = {row.get_name()}
    for node in after([row]):
        chain.add(node.get_name())
        if node.get_type_name() == "Add":
            (other,) = [value for value in node.input_values() if value.get_node().get_name() not in chain] or [None]
            if other is None:
                break
            if other.get_node().get_type_name() not in {"GatherND", "Gather"}:
                return other, node.output(0)
            return _scattered(node)
    raise UnknownGraph("it adds DeepStack rows in an unknown way")


def _scattered(total: ov.Node) -> tuple[ov.Output, ov.Output]:
    """Return the hidden states before and after ``total`` is scattered into them.

    The assignment to all of a tensor follows, which copies it value by value: that goes too.
    """
    for node in consumers(total):
        if node.get_type_name() == "ScatterNDUpdate":
            copy = _path(node, "Reshape", "ScatterNDUpdate", "Reshape")
            whole = copy and _comes_from(copy[1].input_value(1), "Reshape", "Reshape", "Range")
            return node.input_value(0), (copy[-1] if whole else node).output(0)
    raise UnknownGraph("it adds DeepStack rows in an unknown way")


def _path(node: ov.Node, *types: str) -> list[ov.Node]:
    """Return the nodes of these types that follow a node, each the only consumer of the one before; else nothing."""
    found: list[ov.Node] = []
    for kind in types:
        following = consumers(node)
        if len(following) != 1 or following[0].get_type_name() != kind:
            return []
        (node,) = following
        found.append(node)
    return found


def _comes_from(value: ov.Output, *types: str) -> bool:
    """Return whether a value is made by nodes of these types, each from the first input of the one before."""
    for kind in types:
        if value.get_node().get_type_name() != kind:
            return False
        value = value.get_node().input_value(0)
    return True


def _gather_rows(language: ov.Model, hidden: int) -> None:
    """Gather the hidden states of the wanted rows before the head."""
    rows = new_input(language, "logit_rows", [-1], ov.Type.i64)
    head = output_named(language, "logits").input_value(0).get_node()
    while head.get_type_name() == "Convert":
        head = head.input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        raise UnknownGraph(f"its logits come from {head.get_type_name()} instead of a matrix product")
    flat = opset13.reshape(head.input_value(0), np.array([-1, hidden]), special_zero=False)
    head.input(0).replace_source_output(opset13.gather(flat, rows, ZERO).output(0))


def _replace_input(model: ov.Model, name: str, value: ov.Node) -> None:
    parameter = input_named(model, name)
    replace(parameter.output(0), value.output(0))
    model.remove_parameter(parameter)


def _row(features: ov.Node, index: int) -> ov.Node:
    node: ov.Node = opset13.gather(features, np.int64(index), ZERO)
    return node


def _constant(value: ov.Output) -> int:
    """Return a constant index. Raises UnknownGraph."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_byte_size() > 8:
        raise UnknownGraph("it takes DeepStack rows by an index that is not constant")
    return int(node.data.item())
