"""Layouts of a model folder: which graphs it has, each an ``.xml`` file beside a ``.bin`` file with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Layout:
    """Names of the graphs of one layout, without suffix; the first of each part is the largest.

    Attributes:
        name: The layout's name in the manifest.
        decoder: Graphs of the language decoder.
        vision: Graphs of the vision encoder.
    """

    name: str
    decoder: tuple[str, ...]
    vision: tuple[str, ...]

    @property
    def graphs(self) -> tuple[str, ...]:
        """All graphs."""
        return self.decoder + self.vision

    @property
    def files(self) -> tuple[str, ...]:
        """Files of all graphs."""
        return tuple(name for graph in self.graphs for name in (graph_file(graph), weights_file(graph)))


def graph_file(graph: str) -> str:
    """Return the file of a graph."""
    return f"{graph}.xml"


def weights_file(graph: str) -> str:
    """Return the file of a graph's weights."""
    return f"{graph}.bin"


VLRUN = Layout("vlrun", ("decoder",), ("vision",))
"""What ``vlrun export`` writes: one graph for each part."""

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

LAYOUTS = MappingProxyType({layout.name: layout for layout in (VLRUN, OPTIMUM)})
