"""A Hugging Face checkpoint folder of the dense Qwen3-VL family: its configuration and its memory-mapped weights.

Weights are mapped from safetensors and loaded one module at a time. Nothing is unpickled, and no code of the checkpoint
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vlrun.errors import CheckpointError
from vlrun.models.hf_config.model_config import ATTENTION
from vlrun_export.checkpoint_contents import HEAD, CheckpointContents, StoredTensor, opened, read_contents
from vlrun_export.checkpoint_files import CheckpointFiles

DTYPES = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint with checked tensor shapes: its contents, and its configuration as transformers' object."""

    contents: CheckpointContents
    config: Qwen3VLConfig

    @property
    def files(self) -> CheckpointFiles:
        """The files of the folder."""
        return self.contents.files

    @property
    def tied(self) -> bool:
        """Whether embedding and head share a matrix."""
        return self.contents.tied

    @property
    def deepstack(self) -> int:
        """Number of DeepStack levels."""
        return len(self.config.vision_config.deepstack_visual_indexes)

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All stored tensors."""
        return self.contents.tensors

    @property
    def folder(self) -> Path:
        """The folder, for messages."""
        return self.files.folder

    def load(self, module: torch.nn.Module, prefix: str, matrices: torch.dtype | None = None) -> None:
        """Assign the tensors named ``prefix + parameter`` to a module on the meta device.

        Matrices stay mapped in the checkpoint's dtype unless ``matrices`` is given. Vectors become float32.
        """
        by_file: dict[str, list[str]] = {}
        for name in module.state_dict():
            by_file.setdefault(self.tensors[prefix + name].file, []).append(name)
        state: dict[str, torch.Tensor] = {}
        for stored, names in by_file.items():
            with opened(self.files, stored, "pt") as file:
                state |= {name: _cast(file.get_tensor(prefix + name), matrices) for name in names}
        module.load_state_dict(state, strict=True, assign=True)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder: read config.json and the headers of the weight files.

    Raises:
        CheckpointError: The folder is missing, incomplete, damaged, or of another model family.
    """
    contents = read_contents(folder)
    try:
        config = Qwen3VLConfig(**contents.config, attn_implementation=ATTENTION)
    except Exception as error:  # version 5 has classes of its own
        raise CheckpointError(f"transformers rejects the config.json of '{folder}': {error}") from error
    _check_tensors(config, contents.tied, contents.tensors, folder)
    return Checkpoint(contents, config)


def _check_tensors(config: Qwen3VLConfig, tied: bool, tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Compare names, shapes and dtypes with transformers' model on the meta device."""
    try:
        with torch.device("meta"):
            model = Qwen3VLForConditionalGeneration(config)
    except Exception as error:  # for example an unknown activation
        raise CheckpointError(
            f"transformers cannot build the model of '{folder}' from its config.json: {error}"
        ) from error
    for name, value in model.state_dict().items():
        if tied and name == HEAD:
            continue
        if name not in tensors:
            raise CheckpointError(f"the checkpoint '{folder}' lacks the tensor {name}")
        if tensors[name].shape != tuple(value.shape):
            raise CheckpointError(
                f"the tensor {name} of '{folder}' has shape {list(tensors[name].shape)}, "
                f"but its config.json requires {list(value.shape)}"
            )
        if tensors[name].dtype not in DTYPES:
            raise CheckpointError(
                f"the tensor {name} of '{folder}' has type {tensors[name].dtype}, but only {', '.join(DTYPES)} can be "
                "exported: use the original checkpoint"
            )


def _cast(tensor: torch.Tensor, matrices: torch.dtype | None) -> torch.Tensor:
    """Cast vectors (norms, biases) to float32, and matrices to ``matrices`` if given."""
    if tensor.ndim < 2:
        return tensor.to(torch.float32)
    return tensor if matrices is None else tensor.to(matrices)
