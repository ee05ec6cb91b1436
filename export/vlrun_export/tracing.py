"""Traces torch modules to OpenVINO models with named ports, without copying mapped bf16 weights to float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov
import torch

SMALL_BYTES = 64
SHARED_TYPES = frozenset({"i32", "i64", "f32"})


@dataclass(frozen=True)
class Port:
    """An input of a traced graph: its name, its partial shape (-1: dynamic) and an example value."""

    name: str
    shape: tuple[int, ...]
    example: torch.Tensor


@dataclass(frozen=True)
class TracedGraph:
    """A traced model, and the module that owns its constants' memory until the model is saved."""

    model: ov.Model
    module: torch.nn.Module


def trace(module: torch.nn.Module, inputs: Sequence[Port], outputs: Sequence[str]) -> TracedGraph:
    """Trace ``module(*inputs)`` to an OpenVINO model with the given port names.

    Matrices of Linear and Embedding modules become constants in their own dtype, followed by a conversion to float32,
    by OpenVINO's 16-bit patch. All arithmetic is float32.
    """
    from openvino.frontend.pytorch.patch_model import __make_16bit_traceable, unpatch_model
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    examples = tuple(port.example for port in inputs)
    module.eval()
    with torch.no_grad():
        __make_16bit_traceable(module)
        try:
            decoder = TorchScriptPythonDecoder(module, example_input=examples, trace_kwargs={"check_trace": False})
            shapes = [(ov.PartialShape(list(port.shape)), _type(port.example)) for port in inputs]
            model = ov.convert_model(decoder, example_input=examples, input=shapes)
        finally:
            unpatch_model(module, "_openvino_module_extension_patch_orig_forward")
            _forget_traced_modules()
    for port, given in zip(inputs, model.inputs, strict=True):
        given.get_tensor().set_names({port.name})
    for name, output in zip(outputs, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return TracedGraph(model, module)


def share_constants(model: ov.Model) -> None:
    """Merge equal small constants (axes, bounds, exponents).

    They are a quarter of the nodes of a traced decoder, and compile time grows with the number of nodes.
    """
    known: dict[tuple[str, tuple[int, ...], bytes], ov.Output] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_byte_size() > SMALL_BYTES:
            continue
        kind = node.get_element_type().get_type_name()
        if kind not in SHARED_TYPES:
            continue
        first = known.setdefault((kind, tuple(node.get_output_shape(0)), node.data.tobytes()), node.output(0))
        if first.get_node().get_name() != node.get_name():
            for consumer in node.output(0).get_target_inputs():
                consumer.replace_source_output(first)
    model.validate_nodes_and_infer_types()


def _forget_traced_modules() -> None:
    """Clear the registries of torch.jit, which would keep the module and its weights."""
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _type(example: torch.Tensor) -> ov.Type:
    return {torch.float32: ov.Type.f32, torch.int64: ov.Type.i64, torch.bool: ov.Type.boolean}[example.dtype]
