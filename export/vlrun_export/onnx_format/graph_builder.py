"""Builds an ONNX graph node by node, and writes its weights to a data file while it grows.

The graphs are written directly instead of traced, because that gives ONNX Runtime's fused operators, and needs the
memory of one matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, ValueInfoProto, helper

Array = npt.NDArray[Any]
Shape = Sequence[int | str]

OPSET, IR_VERSION = 23, 11
"""The first opset with RMSNormalization, and its version of the format."""
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
ALIGNMENT = 4096
"""Of tensors in the data file, so that they can be mapped."""
INLINE_BYTES = 1024
"""Larger constants go to the data file."""


class GraphBuilder:
    """A growing graph.

    Args:
        path: The ``.onnx`` file to write; its weights go to a file beside it.
        data: That file, opened for writing.
        data_name: Name of that file.
    """

    def __init__(self, path: Path, data: BinaryIO, data_name: str) -> None:
        self._path, self._data, self._data_name = path, data, data_name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        """Add an input; a name in the shape is a dynamic dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> None:
        """Declare a result as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), domain: str = "", **attributes: Any
    ) -> str:
        """Add a node and return its first output; outputs without a name get one."""
        name = f"{kind}_{len(self._nodes)}"
        results = list(outputs) or [name]
        self._nodes.append(helper.make_node(kind, inputs, results, name=name, domain=domain, **attributes))
        return results[0]

    def constant(self, name: str, value: Array) -> str:
        """Add a constant once, in the graph if it is small."""
        if name in self._initializers:
            return name
        if value.nbytes > INLINE_BYTES:
            return self.stored(name, value.dtype, value.shape, [value])
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self._initializers[name] = helper.make_tensor(name, kind, value.shape, value.tobytes(), raw=True)
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of integers, such as a shape."""
        return self.constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def stored(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int], parts: Iterable[Array]) -> str:
        """Write a constant to the data file, in consecutive parts."""
        offset = self._data.tell()
        for part in parts:
            self._data.write(np.ascontiguousarray(part).data)
        self._add_stored(name, dtype, shape, offset, self._data.tell() - offset)
        self._data.write(bytes(-self._data.tell() % ALIGNMENT))
        return name

    def is_stored(self, name: str) -> bool:
        """Return whether there is a constant of this name."""
        return name in self._initializers

    def reshaped(self, name: str, shape: Sequence[int], stored: str, *, keep: bool) -> str:
        """Add a constant that has the bytes of another one in the data file, with another shape. ``keep``: both."""
        tensor = self._initializers[stored]
        place = {entry.key: entry.value for entry in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        self._add_stored(name, dtype, shape, int(place["offset"]), int(place["length"]))
        if not keep:
            del self._initializers[stored]
        return name

    def save(self) -> None:
        """Write the graph and check it. Raises OSError."""
        graph = helper.make_graph(
            self._nodes, self._path.stem, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vlrun")
        self._data.flush()
        self._path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(self._path)

    def _add_stored(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int], offset: int, length: int) -> None:
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", self._data_name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
