"""What a checkpoint folder says about itself: config.json and the headers of its weight files.

Nothing here needs torch, so that a wrong folder is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from vlrun.errors import CheckpointError
from vlrun.models.hf_config.model_config import read_config
from vlrun_export.checkpoint_files import CheckpointFiles, open_folder

VISION_PREFIX = "model.visual."
TEXT_PREFIX = "model.language_model."
HEAD = "lm_head.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class StoredTensor:
    """The file of a tensor, its shape, and its dtype in safetensors' notation."""

    file: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class CheckpointContents:
    """The arguments of ``Qwen3VLConfig``, and every stored tensor. ``tied``: embedding and head share a matrix."""

    files: CheckpointFiles
    config: dict[str, Any]
    tied: bool
    tensors: Mapping[str, StoredTensor]


def read_contents(folder: Path) -> CheckpointContents:
    """Read config.json and the headers of the weight files.

    Raises:
        CheckpointError: The folder is missing, incomplete, damaged, or of another model family.
    """
    files = open_folder(folder)
    adapters = [name for name in ADAPTERS if files.has(name)]
    if adapters:
        raise _unmerged(folder, adapters[0])
    config = read_config(files)
    tensors = _stored_tensors(files)
    _check_counts(config, tensors, folder)
    return CheckpointContents(files, config, _is_tied(config, tensors, folder), tensors)


@contextmanager
def opened(files: CheckpointFiles, name: str, framework: Literal["np", "pt"]) -> Iterator[Any]:
    """Map a safetensors file and check its header and length."""
    path = files.check_weights(name)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name} of '{files.folder}' is damaged or incomplete ({error})") from error


def _is_tied(config: dict[str, Any], tensors: Mapping[str, StoredTensor], folder: Path) -> bool:
    """Return the setting of the text section, or of the top level, or whether there is no separate head."""
    settings = [
        part["tie_word_embeddings"] for part in (config["text_config"], config) if "tie_word_embeddings" in part
    ]
    tied = bool(settings[0]) if settings else HEAD not in tensors
    if not tied and HEAD not in tensors:
        raise CheckpointError(f"the checkpoint '{folder}' lacks the tensor {HEAD}")
    return tied


def _check_counts(config: dict[str, Any], tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Compare the numbers of layers with the weights, before transformers builds as many."""
    text, vision = config["text_config"], config["vision_config"]
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


def _stored_tensors(files: CheckpointFiles) -> dict[str, StoredTensor]:
    """Read all tensor names, shapes and dtypes from the headers of the weight files."""
    tensors = {}
    for name in _weight_files(files):
        with opened(files, name, "np") as file:
            for key in file.keys():  # noqa: SIM118 - the file is not a mapping
                tensor = file.get_slice(key)
                tensors[key] = StoredTensor(name, tuple(tensor.get_shape()), tensor.get_dtype())
    adapted = next((name for name in tensors if ".lora_" in name or ".base_layer." in name), None)
    if adapted:
        raise _unmerged(files.folder, adapted)
    return tensors


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
