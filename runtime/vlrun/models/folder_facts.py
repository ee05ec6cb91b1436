"""What a folder or a repository holds, told by the names of its files, and the facts of a model folder for listings."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from vlrun.errors import ForeignModel, ModelNotFound
from vlrun.layout import LAYOUTS
from vlrun.manifest import MANIFEST, Manifest
from vlrun.models.model_folder import ModelFolder
from vlrun.models.ready_folder import folder_kind

FORMATS = {".xml": "openvino", ".onnx": "onnx"}
"""Formats of graphs by the suffix of their files."""


class Content(Enum):
    """What a folder or a repository holds."""

    VLRUN = "a model of vlrun"
    OPTIMUM = "a model of optimum-intel"
    CHECKPOINT = "a PyTorch checkpoint"
    GGUF = "GGUF"
    ONNX = "ONNX of other programs"
    PICKLE = "pickled PyTorch weights"
    UNKNOWN = "unknown"

    @property
    def ready(self) -> bool:
        """Whether it can be loaded as it is."""
        return self in (Content.VLRUN, Content.OPTIMUM)


@dataclass(frozen=True)
class FolderFacts:
    """What a listing shows of a model folder.

    Attributes:
        name: The model's own name.
        layout: The layout of its graphs (``layout.LAYOUTS``).
        format: The format of its graphs.
        precision: Of the decoder's weights, and of the vision encoder's if that differs.
        backend: The backend that runs it.
        nbytes: Size of its files.
        fingerprint: Identifies the model in the caches.
    """

    name: str
    family: str
    layout: str
    format: str
    precision: str
    backend: str
    nbytes: int
    fingerprint: str


def content_of(names: Collection[str]) -> Content:
    """Return what a folder with files of these names holds. Of several models, one that is ready for use."""
    suffixes = {PurePosixPath(name).suffix for name in names}
    kind = folder_kind(names)
    if kind == "vlrun" and not suffixes & {*FORMATS}:  # the manifest of another program
        kind = folder_kind({*names} - {MANIFEST})
    if kind is not None:
        return {"vlrun": Content.VLRUN, "optimum": Content.OPTIMUM, "checkpoint": Content.CHECKPOINT}[kind]
    for suffix, content in ((".gguf", Content.GGUF), (".onnx", Content.ONNX), (".bin", Content.PICKLE)):
        if suffix in suffixes:
            return content
    return Content.UNKNOWN


def open_ready(folder: Path) -> ModelFolder:
    """Open a folder that vlrun can load.

    Raises:
        ModelNotFound: There is no such folder.
        ForeignModel: It holds something that vlrun cannot run.
        DamagedModel: A file is missing or damaged.
    """
    try:
        content = content_of([entry.name for entry in os.scandir(folder)])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelNotFound(f"cannot open the model folder '{folder}': {reason}") from error
    if not content.ready:
        raise ForeignModel(f"'{folder}' {why_not(content)}")
    return ModelFolder(folder)


def describe(folder: Path) -> FolderFacts:
    """Return the facts of a model folder, whose files are opened but not loaded. Raises as ``open_ready``."""
    opened = open_ready(folder)
    manifest = opened.manifest
    layout = LAYOUTS[manifest.layout]
    return FolderFacts(
        manifest.name,
        manifest.family,
        layout.name,
        FORMATS[layout.suffixes[0]],
        _precision(manifest),
        layout.backend,
        sum(stamp.size for stamp in opened.stamps.values()),
        opened.fingerprint,
    )


def why_not(content: Content) -> str:
    """Return why something cannot be loaded, and what to do, as the rest of a sentence about a folder or repository."""
    if content is Content.CHECKPOINT:
        return "is a PyTorch checkpoint: 'vlrun export' makes a model folder from it"
    if content is Content.UNKNOWN:
        return "holds no model that vlrun knows: it needs an OpenVINO model, or a checkpoint with safetensors"
    return f"holds only {content.value}, which vlrun cannot run: use the original checkpoint with safetensors"


def _precision(manifest: Manifest) -> str:
    decoder, vision = manifest.quantization.decoder, manifest.quantization.vision
    return decoder if decoder == vision else f"{decoder}, vision {vision}"
