"""Moves the KV cache of a traced decoder into the model's state, in the form that PagedAttention needs.

The PagedAttention transformation of OpenVINO recognizes a cache by two marks: each ReadValue has an initial value, and
a Gather by ``beam_idx`` lies between the ReadValue and the Concat that appends the new tokens.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation

BEAM_INDEX = "beam_idx"


def cache_names(layers: int) -> dict[str, str]:
    """Return the names of the inputs of a decoder's cache, and of the output of each."""
    return {
        f"past_key_values.{index}.{part}": f"present.{index}.{part}"
        for index in range(layers)
        for part in ("key", "value")
    }


def make_stateful(model: ov.Model, caches: dict[str, str], batched: str) -> None:
    """Turn inputs and outputs of the cache into state variables, in place.

    Args:
        model: A traced decoder.
        caches: Name of the input -> name of the output, both ``[B, kv_heads, tokens, head_dim]``.
        batched: Name of an input whose first dimension is B.
    """
    ids = model.input(batched)
    beams = opset13.parameter(ov.PartialShape([ids.partial_shape[0]]), ov.Type.i32, name=BEAM_INDEX)
    beams.output(0).get_tensor().set_names({BEAM_INDEX})
    model.add_parameters([beams])
    batch_axis = opset13.constant(np.int64(0))
    for name in caches:
        past = model.input(name)
        consumers = past.get_target_inputs()
        reordered = opset13.gather(past, beams, batch_axis)
        for consumer in consumers:
            consumer.replace_source_output(reordered.output(0))
    model.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(model, caches)
    batch = opset13.gather(opset13.shape_of(ids, output_type="i64"), opset13.constant(np.array([0])), batch_axis)
    for read in [node for node in model.get_ops() if node.get_type_name() == "ReadValue"]:
        _, heads, _, width = read.get_output_partial_shape(0)
        empty = opset13.concat([batch, opset13.constant(np.array([heads.get_length(), 0, width.get_length()]))], axis=0)
        read.set_arguments([opset13.broadcast(opset13.constant(np.float32(0)), empty)])
    model.validate_nodes_and_infer_types()
