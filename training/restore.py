"""Restores a checkpoint from an INT8 model folder, so that training can continue where only the folder is left.

    python -m training.restore MODEL CHECKPOINT

Matrices are dequantized; norms and biases are exact. Compressing the checkpoint again gives the folder's very bytes,
except where a row's extreme values rounded.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.checkpoint import save_checkpoint
from training.network import configuration
from training.vocabulary import SPECIAL
from vlrun import manifest

PREFIXES = {
    "self.text.": "model.language_model.",
    "self.vision.": "model.visual.",
    "self.patch_embed.": "model.visual.patch_embed.proj.",
}
"""Start of a module's name in the graphs that the export traces: start of its name in a checkpoint."""
VECTOR = re.compile(r"__module\.(.+)/(?:aten::mul|aten::layer_norm|ov_ext::linear)/(Multiply|Add)(?:_\d+)?")
"""Name of the operation that applies a norm's weight or a bias: Multiply or Add."""


def load_checkpoint(folder: Path) -> tuple[Qwen3VLForConditionalGeneration, Tokenizer]:
    """The model with the weights of an INT8 model folder or of a checkpoint, and its tokenizer."""
    tokenizer = Tokenizer.from_file(str(folder / manifest.TOKENIZER))
    if not (folder / manifest.MANIFEST).exists():
        return Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), tokenizer
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    model = Qwen3VLForConditionalGeneration(configuration(tokenizer.get_vocab_size(), ids))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    core, weights = ov.Core(), {}
    for graph in (manifest.DECODER_XML, manifest.VISION_XML):
        for name, value in _weights(core.read_model(folder / graph)):
            weights[name] = torch.from_numpy(value).reshape(shapes[name])
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]  # tied
    model.load_state_dict(weights)
    return model, tokenizer


def _weights(graph: ov.Model) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """All weights of a graph by their names in a checkpoint."""
    constants = {node.get_friendly_name(): node for node in graph.get_ops() if node.get_type_name() == "Constant"}
    for name, node in constants.items():
        if f"{name}/scale" in constants:
            offset, scale = (constants[f"{name}/{part}"].data.astype(np.float32) for part in ("zero_point", "scale"))
            yield _checkpoint_name(name), (node.data.astype(np.float32) - offset) * scale
        elif node.get_element_type() == ov.Type.f32 and (found := _vector_name(node)):
            yield found, node.data.copy()


def _vector_name(node: ov.Node) -> str | None:
    """Name of a norm's weight or of a bias in a checkpoint; None for any other constant."""
    for consumer in node.output(0).get_target_inputs():
        found = VECTOR.fullmatch(consumer.get_node().get_friendly_name())
        if found and node.data.size > 1:
            return _checkpoint_name(f"self.{found[1]}.{'weight' if found[2] == 'Multiply' else 'bias'}")
    return None


def _checkpoint_name(name: str) -> str:
    (start,) = [start for start in PREFIXES if name.startswith(start)]
    return PREFIXES[start] + name.removeprefix(start)


def main() -> None:
    """Write the checkpoint folder."""
    parser = argparse.ArgumentParser(description="Restore a checkpoint from an INT8 model folder.")
    parser.add_argument("model", type=Path, help="a model folder with INT8 weights")
    parser.add_argument("checkpoint", type=Path, help="the folder to write")
    options = parser.parse_args()
    save_checkpoint(*load_checkpoint(options.model), options.checkpoint)


if __name__ == "__main__":
    main()
