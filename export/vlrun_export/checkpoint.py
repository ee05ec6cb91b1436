"""A Hugging Face checkpoint folder of the dense Qwen3-VL family: its configuration and its memory-mapped weights.

Weights are mapped from safetensors and loaded one module at a time. Nothing is unpickled, and no code of the checkpoint
runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vlrun.errors import CheckpointError
from vlrun_export.checkpoint_files import CheckpointFiles, open_folder
from vlrun_export.model_config import ATTENTION, read_config

VISION_PREFIX = "model.visual."
TEXT_PREFIX = "model.language_model."
HEAD = "lm_head.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
DTYPES = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class StoredTensor:
    """The file of a tensor, its shape, and its dtype in safetensors' notation."""

    file: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint with checked tensor shapes. ``tied``: whether embedding and head share a matrix."""

    files: CheckpointFiles
    config: Qwen3VLConfig
    tied: bool
    tensors: Mapping[str, StoredTensor]

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
            with _opened(self.files, stored) as file:
                state |= {name: _cast(file.get_tensor(prefix + name), matrices) for name in names}
        module.load_state_dict(state, strict=True, assign=True)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder: read config.json and the headers of the weight files.

    Raises:
        CheckpointError: The folder is missing, incomplete, damaged, or of another model family.
    """
    files = open_folder(folder)
    adapters = [name for name in ADAPTERS if files.has(name)]
    if adapters:
        raise _unmerged(folder, adapters[0])
    raw = read_config(files)
    tensors = _stored_tensors(files)
    _check_counts(raw, tensors, folder)
    try:
        config = Qwen3VLConfig(**raw, attn_implementation=ATTENTION)
    except Exception as error:  # version 5 has classes of its own
        raise CheckpointError(f"transformers rejects the config.json of '{folder}': {error}") from error
    tied = _is_tied(raw, tensors, folder)
    _check_tensors(config, tied, tensors, folder)
    return Checkpoint(files=files, config=config, tied=tied, tensors=tensors)


def _is_tied(raw: dict[str, Any], tensors: Mapping[str, StoredTensor], folder: Path) -> bool:
    """Return the setting of the text section, or of the top level, or whether there is no separate head."""
    settings = [part["tie_word_embeddings"] for part in (raw["text_config"], raw) if "tie_word_embeddings" in part]
    tied = bool(settings[0]) if settings else HEAD not in tensors
    if not tied and HEAD not in tensors:
        raise CheckpointError(f"the checkpoint '{folder}' lacks the tensor {HEAD}")
    return tied


def _check_counts(raw: dict[str, Any], tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Compare the numbers of layers with the weights, before transformers builds as many."""
    text, vision = raw["text_config"], raw["vision_config"]
    for prefix, named, count in (
        (f"{TEXT_PREFIX}layers.", "text_config.num_hidden_layers", text["num_hidden_layers"]),
        (f"{VISION_PREFIX}blocks.", "vision_config.depth", vision["depth"]),
        (f"{VISION_PREFIX}deepstack_merger_list.", "the number of vision_config.deepstack_visual_indexes",
         len(vision["deepstack_visual_indexes"])),
    ):  # fmt: skip
        numbered = re.compile(rf"{re.escape(prefix)}(\d+)\.")
        stored = len({match[1] for name in tensors if (match := numbered.match(name))})
        if stored != count:
            raise CheckpointError(f"{named} of '{folder}' is {count}, but its weights have {stored}")


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


def _stored_tensors(files: CheckpointFiles) -> dict[str, StoredTensor]:
    """Read all tensor names, shapes and dtypes from the headers of the weight files."""
    tensors = {}
    for name in _weight_files(files):
        with _opened(files, name) as file:
            for key in file.keys():  # noqa: SIM118 - the file is not a mapping
                tensor = file.get_slice(key)
                tensors[key] = StoredTensor(name, tuple(tensor.get_shape()), tensor.get_dtype())
    adapted = next((name for name in tensors if ".lora_" in name or ".base_layer." in name), None)
    if adapted:
        raise _unmerged(files.folder, adapted)
    return tensors


@contextmanager
def _opened(files: CheckpointFiles, name: str) -> Iterator[Any]:
    """Map a safetensors file and check its header and length."""
    path = files.check_weights(name)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name} of '{files.folder}' is damaged or incomplete ({error})") from error


def _weight_files(files: CheckpointFiles) -> list[str]:
    """Return the names of the weight files; a single file has priority, as in transformers."""
    folder = files.folder
    if files.has(WEIGHTS):
        return [WEIGHTS]
    if not files.has(INDEX):
        raise CheckpointError(f"'{folder}' has no safetensors weights ({WEIGHTS} or {INDEX})")
    index = files.json(INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"the {INDEX} of '{folder}' has no weight_map")
    names = sorted({str(name) for name in index.values()})
    outside = [name for name in names if name != Path(name).name or not name.isprintable()]
    if outside:
        raise CheckpointError(f"the {INDEX} of '{folder}' names a file outside of it: {outside[0]!r:.80}")
    return names


def _unmerged(folder: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"'{folder}' has an adapter that is not merged into the weights ({found}): merge it first, with PEFT's "
        "merge_and_unload, and export the result"
    )


def _cast(tensor: torch.Tensor, matrices: torch.dtype | None) -> torch.Tensor:
    """Cast vectors (norms, biases) to float32, and matrices to ``matrices`` if given."""
    if tensor.ndim < 2:
        return tensor.to(torch.float32)
    return tensor if matrices is None else tensor.to(matrices)
