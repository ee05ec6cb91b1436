"""A Hugging Face checkpoint folder of the dense Qwen3-VL family: its configuration and its memory-mapped weights.

Weights are mapped from safetensors and loaded one module at a time. Nothing is unpickled, and no code of the checkpoint
runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vlrun.errors import CheckpointError

MODEL_TYPE = "qwen3_vl"
VISION_PREFIX = "model.visual."
TEXT_PREFIX = "model.language_model."
HEAD = "lm_head.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

REQUIRED_KEYS = {
    "": ("text_config", "vision_config", "image_token_id", "video_token_id", "vision_start_token_id",
         "vision_end_token_id"),
    "text_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                    "num_key_value_heads", "head_dim", "hidden_act", "vocab_size", "max_position_embeddings",
                    "rms_norm_eps", "rope_theta", "rope_scaling"),
    "vision_config": ("depth", "hidden_size", "hidden_act", "intermediate_size", "num_heads", "in_channels",
                      "patch_size", "temporal_patch_size", "spatial_merge_size", "out_hidden_size",
                      "num_position_embeddings", "deepstack_visual_indexes"),
}  # fmt: skip
"""Keys that config.json must have, because transformers would use the defaults of another model."""


@dataclass(frozen=True)
class StoredTensor:
    """The file of a tensor, and its shape."""

    path: Path
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint with checked tensor shapes. ``tied``: whether embedding and head share a matrix."""

    folder: Path
    config: Qwen3VLConfig
    tied: bool
    tensors: Mapping[str, StoredTensor]

    def load(self, module: torch.nn.Module, prefix: str, matrices: torch.dtype | None = None) -> None:
        """Assign the tensors named ``prefix + parameter`` to a module on the meta device.

        Matrices stay mapped in the checkpoint's dtype unless ``matrices`` is given. Vectors become float32.
        """
        by_file: dict[Path, list[str]] = {}
        for name in module.state_dict():
            by_file.setdefault(self.tensors[prefix + name].path, []).append(name)
        state: dict[str, torch.Tensor] = {}
        for path, names in by_file.items():
            with _opened(path) as file:
                state |= {name: _cast(file.get_tensor(prefix + name), matrices) for name in names}
        module.load_state_dict(state, strict=True, assign=True)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder: read config.json and the headers of the weight files.

    Raises:
        CheckpointError: The folder is missing, incomplete, damaged, or of another model family.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder at '{folder}'")
    raw = read_json(folder, "config.json")
    _rename_rope(raw)
    _check_config(raw, folder)
    try:
        config = Qwen3VLConfig(**raw)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"transformers rejects the config.json of '{folder}': {error}") from error
    tensors = _stored_tensors(folder)
    tied = _is_tied(raw, tensors, folder)
    _check_tensors(config, tied, tensors, folder)
    return Checkpoint(folder=folder, config=config, tied=tied, tensors=tensors)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read the JSON object in ``folder/name``. Raises CheckpointError."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"'{folder}' is not a checkpoint: it has no {name}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {name} of '{folder}': {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the {name} of '{folder}' is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"the {name} of '{folder}' is not a JSON object")
    return value


def _rename_rope(raw: dict[str, Any]) -> None:
    """Rename the ``rope_parameters`` of transformers 5 to the ``rope_scaling`` and ``rope_theta`` that 4.57 reads."""
    text = raw.get("text_config")
    if isinstance(text, dict) and isinstance(text.get("rope_parameters"), dict):
        rope = text.pop("rope_parameters")
        text.setdefault("rope_theta", rope.pop("rope_theta", None))
        text.setdefault("rope_scaling", rope)


def _check_config(raw: dict[str, Any], folder: Path) -> None:
    if raw.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"'{folder}' is a checkpoint of type '{raw.get('model_type')}'; only the dense Qwen3-VL family "
            f"('{MODEL_TYPE}') can be exported"
        )
    if "quantization_config" in raw:
        raise CheckpointError(f"'{folder}' is already quantized; export the original bf16 checkpoint")
    for section, keys in REQUIRED_KEYS.items():
        values = raw[section] if section else raw
        absent = [key for key in keys if not isinstance(values, dict) or values.get(key) is None]
        if absent:
            raise CheckpointError(f"the config.json of '{folder}' lacks {'.'.join(filter(None, [section, absent[0]]))}")
    rope = raw["text_config"]["rope_scaling"]
    if not isinstance(rope, dict) or rope.get("rope_type") != "default" or not rope.get("mrope_interleaved"):
        raise CheckpointError(f"'{folder}' uses a rope_scaling other than the default interleaved M-RoPE: {rope}")
    if len(rope.get("mrope_section", ())) != 3:
        raise CheckpointError(f"the config.json of '{folder}' lacks text_config.rope_scaling.mrope_section")


def _is_tied(raw: dict[str, Any], tensors: Mapping[str, StoredTensor], folder: Path) -> bool:
    """Return the setting of the text section, or of the top level, or whether there is no separate head."""
    for section in (raw["text_config"], raw):
        if "tie_word_embeddings" in section:
            tied = bool(section["tie_word_embeddings"])
            break
    else:
        tied = HEAD not in tensors
    if not tied and HEAD not in tensors:
        raise CheckpointError(f"the checkpoint '{folder}' lacks the tensor {HEAD}")
    return tied


def _check_tensors(config: Qwen3VLConfig, tied: bool, tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Compare names and shapes with transformers' model on the meta device."""
    try:
        with torch.device("meta"):
            model = Qwen3VLForConditionalGeneration(config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
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


def _stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read all tensor names and shapes from the headers of the weight files."""
    tensors = {}
    for path in _weight_files(folder):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - the file is not a mapping
                tensors[name] = StoredTensor(path, tuple(file.get_slice(name).get_shape()))
    return tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Map a safetensors file and check its header and length."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"the checkpoint '{path.parent}' lacks {path.name}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} of '{path.parent}' is damaged or incomplete ({error})") from error


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        index = read_json(folder, INDEX).get("weight_map")
        if not isinstance(index, dict) or not index:
            raise CheckpointError(f"the {INDEX} of '{folder}' has no weight_map")
        names = sorted({str(name) for name in index.values()})
        outside = [name for name in names if name != Path(name).name]
        if outside:
            raise CheckpointError(f"the {INDEX} of '{folder}' names a file outside of it: '{outside[0]}'")
        return [folder / name for name in names]
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    raise CheckpointError(f"'{folder}' has no safetensors weights ({WEIGHTS} or {INDEX})")


def _cast(tensor: torch.Tensor, matrices: torch.dtype | None) -> torch.Tensor:
    """Cast vectors (norms, biases) to float32, and matrices to ``matrices`` if given."""
    if tensor.ndim < 2:
        return tensor.to(torch.float32)
    return tensor if matrices is None else tensor.to(matrices)
