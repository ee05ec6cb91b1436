"""Describes a folder of optimum-intel or openvino-genai, which has no manifest: makes one from its configuration files.

The hashes of its files identify it, as a manifest does. Computing them reads the whole folder, so the description is
kept in the user's cache folder, under a hash of the stamps of all files. Nothing is written to the folder itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from vlrun.errors import DamagedModel, ForeignModel, ModelError, ModelNotFound
from vlrun.layout import OPTIMUM
from vlrun.manifest import CHAT_TEMPLATE, MANIFEST, MAX_MANIFEST_BYTES, TOKENIZER, FileEntry, Quantization
from vlrun.models.hf_config.chat_template import TEMPLATES, chat_template
from vlrun.models.hf_config.files import CONFIG_BYTES
from vlrun.models.hf_config.generation_config import GENERATION_CONFIG
from vlrun.models.hf_config.manifest_fields import describe as describe_fields
from vlrun.models.hf_config.manifest_fields import parse_tokenizer
from vlrun.models.hf_config.model_config import CONFIG, read_config
from vlrun.models.hf_config.preprocessing import PREPROCESSOR
from vlrun.models.hf_config.video_rules import VIDEO_PREPROCESSOR
from vlrun.models.opened_files import OpenedFiles
from vlrun.storage import cache_paths, files

VERSION = 1
"""Raise it when the description of a folder changes: it invalidates what is stored, and all caches of these models."""
SUFFIX = ".manifest"
MAX_RECORDS = 100
CONFIGURATION = (GENERATION_CONFIG, PREPROCESSOR, VIDEO_PREPROCESSOR, CHAT_TEMPLATE, *TEMPLATES)
"""Files that may be missing."""
PRECISIONS = (("i4", "int4"), ("u4", "int4"), ("nf4", "int4"), ("i8", "int8"), ("u8", "int8"), ("f16", "fp16"))
"""Types of constants in a graph, narrowest first, and the precision of the weights that have them."""

FolderKind = Literal["vlrun", "optimum", "checkpoint"]


def folder_kind(names: Collection[str]) -> FolderKind | None:
    """Recognize a folder by the names of its files; None if vlrun can neither run nor export it."""
    if MANIFEST in names:
        return "vlrun"
    if OPTIMUM.graph_file(OPTIMUM.decoder[0]) in names:
        return "optimum"
    if CONFIG in names and any(name.endswith(".safetensors") for name in names):
        return "checkpoint"
    return None


def files_of(names: Collection[str]) -> list[str]:
    """Return the files of a folder without a manifest that vlrun needs, of which some may be missing."""
    return [CONFIG, *OPTIMUM.files, TOKENIZER, *sorted({*names} & {*CONFIGURATION})]


def describe(opened: OpenedFiles, folder: Path) -> bytes:
    """Open the files of a folder without a manifest and return one for it, as JSON.

    Raises:
        ModelNotFound: It is no such folder.
        ForeignModel: It is of another kind or family.
        DamagedModel: A file is missing or broken.
    """
    names = opened.names()
    _check_kind(names, folder)
    if CONFIG not in names:
        raise DamagedModel(f"'{folder}' lacks {CONFIG}: export or copy it again")
    config_files = FolderConfig(opened)
    opened.open(CONFIG)
    config = read_config(config_files)  # before the other files: a model of another family has others
    for name in files_of(names):
        opened.open(name)
    record = cache_paths.described_folders() / f"{_state(opened)}{SUFFIX}"
    with contextlib.suppress(OSError, ValueError):
        content = files.read_checked(record, MAX_MANIFEST_BYTES).tobytes()
        files.touch(record)
        return content
    raw = _describe(opened, config_files, config)
    with contextlib.suppress(OSError):
        files.make_folder(record.parent)
        files.write_checked(record, [raw])
        files.keep_newest(record.parent.iterdir(), MAX_RECORDS)
    return raw


class FolderConfig:
    """The configuration files of an opened folder, as ``hf_config.files.ConfigFiles``."""

    def __init__(self, opened: OpenedFiles) -> None:
        self._opened = opened
        self.folder = Path(opened.name)

    def has(self, name: str) -> bool:
        """Return whether the file was opened."""
        return name in self._opened.stamps

    def text(self, name: str, limit: int) -> str:
        """Return the content of a UTF-8 file of at most ``limit`` bytes."""
        size = self._opened.stamps[name].size
        if size > limit:
            raise self.error(f"{name} in '{self.folder}' has {size:,} bytes; the limit is {limit:,}")
        return self._opened.read_text(name)

    def json(self, name: str, limit: int = CONFIG_BYTES) -> dict[str, Any]:
        """Return the JSON object in a file."""
        try:
            value = json.loads(self.text(name, limit))
        except (ValueError, RecursionError) as error:
            raise self.error(f"the {name} of '{self.folder}' is not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise self.error(f"the {name} of '{self.folder}' is not a JSON object")
        return value

    def error(self, message: str) -> ModelError:
        """Return the error for a file that is missing or wrong."""
        return DamagedModel(message)

    def foreign(self, message: str) -> ModelError:
        """Return the error for a model that vlrun does not support."""
        return ForeignModel(message)


def _check_kind(names: Collection[str], folder: Path) -> None:
    kind = folder_kind(names)
    if kind == "checkpoint":
        raise ModelNotFound(
            f"'{folder}' is a PyTorch checkpoint: make a model of it with 'vlrun export {folder} OUT', which needs "
            "vlrun[export]"
        )
    if kind is None and any(name.startswith("openvino_") and name.endswith(".xml") for name in names):
        raise ForeignModel(
            f"'{folder}' is an OpenVINO model of another kind: vlrun runs the dense Qwen3-VL models, whose folders "
            f"have {OPTIMUM.graph_file(OPTIMUM.decoder[0])}"
        )
    if kind is None:
        raise ModelNotFound(f"'{folder}' has no {MANIFEST}: export a checkpoint with 'vlrun export' first")


def _describe(opened: OpenedFiles, config_files: FolderConfig, config: dict[str, Any]) -> bytes:
    stamps = opened.stamps
    tokenizer = parse_tokenizer(opened.read_text(TOKENIZER), config_files)
    chat_template(config_files)  # raises if there is none
    decoder, vision = (
        _precision(opened.read(OPTIMUM.graph_file(graphs[0]))) for graphs in (OPTIMUM.decoder, OPTIMUM.vision)
    )
    quantization = Quantization(decoder, vision, "as optimum-intel wrote it")
    described = describe_fields(config_files, config, tokenizer, OPTIMUM.name, quantization, {})
    entries = {name: FileEntry(size=stamp.size, sha256=opened.hash(name)) for name, stamp in sorted(stamps.items())}
    for name in opened.changed():
        raise DamagedModel(f"{name} in '{opened.name}' changes while it is read: load it when it is complete")
    return msgspec.json.encode(dataclasses.replace(described, layout=OPTIMUM.name, files=entries))


def _precision(graph: bytes) -> str:
    """Return the precision of the narrowest weights of a graph's XML."""
    for kind, precision in PRECISIONS:
        if f'element_type="{kind}"'.encode() in graph:
            return precision
    return "fp32"


def _state(opened: OpenedFiles) -> str:
    stamps = "\n".join(f"{name} {stamp}" for name, stamp in sorted(opened.stamps.items()))
    return hashlib.sha256(f"{VERSION}\n{stamps}".encode()).hexdigest()
