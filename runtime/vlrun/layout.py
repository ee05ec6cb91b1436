"""Layouts of a model folder: which graphs it has, each with a file for its weights."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

BACKENDS = OPENVINO_RUNTIME, ONNX_RUNTIME = "openvino", "onnxruntime"
"""Names of the backends."""


@dataclass(frozen=True)
class Layout:
    """Names of the graphs of one layout, without suffix; the first of each part is the largest.

    Attributes:
        name: The layout's name in the manifest.
        decoder: Graphs of the language decoder.
        vision: Graphs of the vision encoder.
        backend: The backend that runs it.
        suffixes: Of a graph's file, and of the file of its weights.
    """

    name: str
    decoder: tuple[str, ...]
    vision: tuple[str, ...]
    backend: str = OPENVINO_RUNTIME
    suffixes: tuple[str, str] = (".xml", ".bin")

    @property
    def graphs(self) -> tuple[str, ...]:
        """All graphs."""
        return self.decoder + self.vision

    @property
    def files(self) -> tuple[str, ...]:
        """Files of all graphs."""
        return tuple(name for graph in self.graphs for name in (self.graph_file(graph), self.weights_file(graph)))

    def graph_file(self, graph: str) -> str:
        """Return the file of a graph."""
        return graph + self.suffixes[0]

    def weights_file(self, graph: str) -> str:
        """Return the file of a graph's weights."""
        return graph + self.suffixes[1]


VLRUN = Layout("vlrun", ("decoder",), ("vision",))
"""What ``vlrun export`` writes: one graph for each part."""

ONNX = Layout("onnx", ("decoder",), ("vision",), ONNX_RUNTIME, (".onnx", ".onnx.data"))
"""What ``vlrun export --format onnx`` writes."""

OPTIMUM = Layout(
    "optimum",
    ("openvino_language_model", "openvino_text_embeddings_model"),
    (
        "openvino_vision_embeddings_merger_model",
        "openvino_vision_embeddings_model",
        "openvino_vision_embeddings_pos_model",
    ),
)
"""What ``optimum-cli export openvino`` writes, and openvino-genai reads."""

LAYOUTS = MappingProxyType({layout.name: layout for layout in (VLRUN, ONNX, OPTIMUM)})
