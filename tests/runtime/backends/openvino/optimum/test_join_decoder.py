"""Joining optimum's language model and text embeddings, on small graphs in the forms of several versions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from vlrun.backends.openvino.optimum.decoder import join_decoder
from vlrun.backends.openvino.optimum.rewriting import UnknownGraph

HIDDEN, WORDS, LEVELS = 4, 7, 2
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(WORDS, HIDDEN)).astype(np.float32)
HEAD = RANDOM.normal(size=(WORDS, HIDDEN)).astype(np.float32)
Addition = Callable[[ov.Node, ov.Node, ov.Node], ov.Node]


def spread(hidden: ov.Node, mask: ov.Node, row: ov.Node) -> ov.Node:
    """Add a DeepStack row as optimum-intel 2.2 does."""
    flat = opset13.reshape(mask, np.array([-1]), special_zero=False)
    counted = opset13.cum_sum(opset13.convert(flat, ov.Type.i64), np.int64(0))
    index = opset13.maximum(opset13.add(counted, np.array([-1])), np.array([0]))
    shape = opset13.shape_of(hidden)
    rows = opset13.reshape(opset13.gather(row, index, np.int64(0)), shape, special_zero=False)
    factor = opset13.reshape(opset13.convert(flat, ov.Type.f32), np.array([1, -1, 1]), special_zero=False)
    return opset13.add(hidden, opset13.multiply(rows, factor))


def scatter(hidden: ov.Node, mask: ov.Node, row: ov.Node) -> ov.Node:
    """Add a DeepStack row as optimum-intel 2.0 and 2.1 do, with the copy of the whole tensor that follows."""
    where = opset13.transpose(opset13.non_zero(mask), np.array([1, 0]))
    total = opset13.add(opset13.gather_nd(hidden, where), row)
    scattered = opset13.scatter_nd_update(hidden, where, total)
    shape = opset13.shape_of(hidden)
    count = opset13.reduce_prod(shape, np.int64(0))
    every = opset13.reshape(opset13.range(np.int64(0), count, np.int64(1), "i64"), shape, special_zero=False)
    flat = [opset13.reshape(node, np.array([-1]), special_zero=False) for node in (hidden, scattered)]
    indices = opset13.reshape(every, np.array([-1, 1]), special_zero=False)
    return opset13.reshape(opset13.scatter_nd_update(flat[0], indices, flat[1]), shape, special_zero=False)


def language_model(add: Addition, levels: int = LEVELS) -> ov.Model:
    """A language model of optimum's interface: each layer multiplies by 2."""
    embeds = opset13.parameter(ov.PartialShape([-1, -1, HIDDEN]), ov.Type.f32)
    mask = opset13.parameter(ov.PartialShape([-1, -1]), ov.Type.boolean)
    deepstack = opset13.parameter(ov.PartialShape([-1, -1, HIDDEN]), ov.Type.f32)
    named = {"inputs_embeds": embeds, "visual_pos_masks": mask, "deepstack_visual_embeds": deepstack}
    for name, parameter in named.items():
        parameter.output(0).set_names({name})
    hidden = opset13.multiply(embeds, np.float32(2))
    for level in range(levels):
        hidden = add(hidden, mask, opset13.gather(deepstack, np.int64(level), np.int64(0)))
        hidden = opset13.multiply(hidden, np.float32(2))
    logits = opset13.matmul(hidden, opset13.constant(HEAD), transpose_a=False, transpose_b=True)
    logits.output(0).set_names({"logits"})
    return ov.Model([logits], list(named.values()))


def embeddings() -> ov.Model:
    ids = opset13.parameter(ov.PartialShape([-1, -1]), ov.Type.i64)
    return ov.Model([opset13.gather(opset13.constant(TABLE), ids, np.int64(0))], [ids])


@pytest.mark.parametrize("add", [spread, scatter])
def test_the_joined_graph_gives_the_wanted_rows(add: Addition) -> None:
    """Guards DeepStack in the graphs of each version, and rows of logits that nobody wants."""
    ids = np.array([[3, 0, 0, 5, 1]])
    visual = np.array([[False, True, True, False, False]])
    features = RANDOM.normal(size=(1 + LEVELS, 2, HIDDEN)).astype(np.float32)
    embedded = TABLE[ids]
    embedded[visual] = features[0]
    inputs = {"inputs_embeds": embedded, "visual_pos_masks": visual, "deepstack_visual_embeds": features[1:]}
    expected = ov.Core().compile_model(language_model(add), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)[0]

    dense = np.zeros((1 + LEVELS, 1, 5, HIDDEN), np.float32)
    dense[:, visual] = features
    joined = join_decoder(language_model(add), embeddings(), HIDDEN, LEVELS)
    assert {name for port in joined.inputs for name in port.get_names()} == {
        "input_ids",
        "visual_features",
        "visual_mask",
        "logit_rows",
    }
    assert not any(node.get_type_name() == "ScatterNDUpdate" for node in joined.get_ops())
    compiled = ov.Core().compile_model(joined, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(
        {
            "input_ids": ids,
            "visual_features": dense,
            "visual_mask": visual[:, :, None].astype(np.float32),
            "logit_rows": np.array([1, 4]),
        }
    )[0]
    assert np.allclose(found, expected[0, [1, 4]], atol=1e-5)


def without_addition(hidden: ov.Node, _: ov.Node, row: ov.Node) -> ov.Node:
    return opset13.concat([hidden, opset13.unsqueeze(row, np.int64(0))], axis=1)


@pytest.mark.parametrize(
    ("language", "message"),
    [
        (lambda: language_model(spread, levels=1), r"adds DeepStack rows \[0\] instead of 2"),
        (lambda: language_model(without_addition), "in an unknown way"),
        (embeddings, "no input 'inputs_embeds'"),
    ],
)
def test_another_graph_is_refused(language: Callable[[], ov.Model], message: str) -> None:
    """Guards wrong answers from a graph that only looks like optimum's."""
    with pytest.raises(UnknownGraph, match=message):
        join_decoder(language(), embeddings(), HIDDEN, LEVELS)
