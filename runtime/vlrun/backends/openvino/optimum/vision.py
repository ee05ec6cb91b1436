"""The vision encoder from optimum's three models, with the inputs and the output of vlrun's own.

optimum runs patch embedding, position table and blocks one after the other, and masks the attention between images
with a matrix of all patches by all patches. The joined graph takes one image, which needs no mask.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13

from vlrun.backends.openvino.optimum.rewriting import (
    UnknownGraph,
    after,
    input_named,
    new_input,
    only_input,
    only_output,
    output_named,
    replace,
)
from vlrun.manifest import VisionDimensions

ZERO = np.int64(0)


def join_vision(blocks: ov.Model, patches: ov.Model, table: ov.Model, vision: VisionDimensions) -> ov.Model:
    """Join the models in the first one, and return it.

    Args:
        blocks: optimum's ``vision_embeddings_merger``: the blocks and all mergers.
        patches: optimum's ``vision_embeddings``: the patch embedding.
        table: optimum's ``vision_embeddings_pos``: the learned positions.
        vision: The dimensions.

    Raises:
        UnknownGraph: One of them has another form.
    """
    head_dim = vision.hidden // vision.heads
    pixels = new_input(blocks, "patches", [-1, 3 * vision.temporal_patch * vision.patch**2], ov.Type.f32)
    indices = new_input(blocks, "position_indices", [4, -1], ov.Type.i64)
    weights = new_input(blocks, "position_weights", [4, -1], ov.Type.f32)
    replace(only_input(patches).output(0), pixels.output(0))
    replace(only_input(table).output(0), indices.output(0))
    corners = opset13.multiply(only_output(table), opset13.unsqueeze(weights, np.int64(2)))
    embedded = opset13.add(only_output(patches), opset13.reduce_sum(corners, ZERO))
    _remove_mask(blocks)
    _replace_angles(blocks, head_dim)
    hidden = input_named(blocks, "hidden_states")
    replace(hidden.output(0), embedded.output(0))
    blocks.remove_parameter(hidden)
    _stack_features(blocks)
    blocks.validate_nodes_and_infer_types()
    return blocks


def _remove_mask(blocks: ov.Model) -> None:
    """Let all patches attend to all: nothing else is in the graph than one image."""
    mask = input_named(blocks, "attention_mask")
    for port in mask.output(0).get_target_inputs():
        attention = port.get_node()
        if attention.get_type_name() != "ScaledDotProductAttention" or attention.get_attributes().get("causal"):
            raise UnknownGraph(f"its attention mask goes to {attention.get_type_name()}")
        # The plugin has a fast kernel for four dimensions, with the batch in front.
        query, key, value = (opset13.unsqueeze(attention.input_value(index), ZERO) for index in range(3))
        scale = attention.input_value(4) if attention.get_input_size() > 4 else None
        mixed = opset13.scaled_dot_product_attention(query, key, value, scale=scale)
        replace(attention.output(0), opset13.squeeze(mixed, ZERO).output(0))
    blocks.remove_parameter(mask)


def _replace_angles(blocks: ov.Model, head_dim: int) -> None:
    """Replace the cosines and sines of the rotary angles by inputs."""
    angles = input_named(blocks, "rotary_pos_emb")
    inputs = {
        "Cos": new_input(blocks, "rotary_cos", [-1, head_dim], ov.Type.f32),
        "Sin": new_input(blocks, "rotary_sin", [-1, head_dim], ov.Type.f32),
    }
    found = [node for node in after([angles]) if node.get_type_name() in inputs]
    for node in found:
        if not node.get_output_partial_shape(0).compatible(ov.PartialShape([-1, head_dim])):
            raise UnknownGraph(f"its rotary angles have the shape {node.get_output_partial_shape(0)}")
        replace(node.output(0), inputs[node.get_type_name()].output(0))
    if {node.get_type_name() for node in found} != inputs.keys():
        raise UnknownGraph("it does not compute cosines and sines of its rotary angles")
    blocks.remove_parameter(angles)


def _stack_features(blocks: ov.Model) -> None:
    """Stack embeddings and DeepStack rows to one output."""
    last, deepstack = (output_named(blocks, name) for name in ("last_hidden_state", "deepstack_feature_lists"))
    first = opset13.unsqueeze(last.input_value(0), ZERO)
    features = opset13.concat([first, deepstack.input_value(0)], axis=0)
    features.output(0).set_names({"features"})
    for result in (last, deepstack):
        blocks.remove_result(result)
    blocks.add_outputs([features.output(0)])
