"""Kinds of model folders: recognised by the names of their files, and described before anything is loaded.

The store and the listing ask only this module what a folder is. A new layout is one more entry of ``Layout``, one line
in ``layout_of``, and a function in ``describe``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, ForeignModel, ModelNotFound
from vlrun.manifest import DECODER_XML, MANIFEST, Manifest
from vlrun.models.registry import family_of_model_type
from vlrun.storage.regular_files import read_regular

CONFIG = "config.json"
"""What describes a checkpoint, and folders made from it by other programs."""
LANGUAGE_MODEL = "openvino_language_model.xml"
"""What optimum-intel and openvino-genai call the decoder."""
GRAPHS = re.compile(r"openvino_(?!tokenizer|detokenizer)\w+\.(xml|bin)")
"""Models of optimum-intel, without the tokenizers for openvino-genai: vlrun has its own."""
SETTINGS = re.compile(r"(?!vlrun-source).*\.(json|jinja)|merges\.txt|vocab\.txt")
SAFETENSORS = ".safetensors"
MAX_CONFIG_BYTES = 1 << 24
"""Of config.json, which has up to 10 kB."""


class Layout(Enum):
    """What a folder or a repository holds."""

    VLRUN = "vlrun"
    OPTIMUM = "optimum"
    CHECKPOINT = "PyTorch checkpoint"
    GGUF = "GGUF"
    ONNX = "ONNX"
    PICKLE = "pickled PyTorch weights"
    UNKNOWN = "unknown"

    @property
    def ready(self) -> bool:
        """Whether it can be loaded as it is."""
        return self in (Layout.VLRUN, Layout.OPTIMUM)


@dataclass(frozen=True)
class ModelFacts:
    """What a listing shows of a model folder.

    Attributes:
        name: The model's own name; that of the folder, if it has none.
        format: The format of the graphs, such as ``openvino``.
        precision: Of the decoder's weights, and of the vision encoder's if that differs; empty if unknown.
        backend: The backend that runs it.
        nbytes: Size of its files.
        fingerprint: Identifies the model in the caches.
    """

    name: str
    family: str
    layout: Layout
    format: str
    precision: str
    backend: str
    nbytes: int
    fingerprint: str


def layout_of(names: Collection[str]) -> Layout:
    """Return what a folder with files of these names holds. Of several layouts, the one that is ready for use."""
    suffixes = {Path(name).suffix for name in names}
    if MANIFEST in names and DECODER_XML in names:
        return Layout.VLRUN
    if LANGUAGE_MODEL in names:
        return Layout.OPTIMUM
    if CONFIG in names and SAFETENSORS in suffixes:
        return Layout.CHECKPOINT
    for suffix, layout in ((".gguf", Layout.GGUF), (".onnx", Layout.ONNX), (".bin", Layout.PICKLE)):
        if suffix in suffixes:
            return layout
    return Layout.UNKNOWN


def describe(folder: Path) -> ModelFacts:
    """Return the facts of a model folder, without opening its weights.

    Raises:
        ModelNotFound: There is no such folder, or no model in it.
        ForeignModel: It holds something that vlrun cannot run.
        DamagedModel: What describes it is damaged.
    """
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelNotFound(f"cannot open the model folder '{folder}': {reason}") from error
    layout = layout_of(names)
    if layout is Layout.VLRUN:
        return _describe_vlrun(folder)
    if layout is Layout.OPTIMUM:
        return _describe_optimum(folder)
    raise ForeignModel(f"'{folder}' {why_not(layout)}")


def needed_files(layout: Layout, names: Iterable[str]) -> list[str]:
    """Return the names of files that a folder of optimum-intel needs, or the settings of a checkpoint."""
    return [name for name in names if SETTINGS.fullmatch(name) or (layout is Layout.OPTIMUM and GRAPHS.fullmatch(name))]


def why_not(layout: Layout) -> str:
    """Return why a layout cannot be loaded, and what to do, as the rest of a sentence about a folder or repository."""
    if layout is Layout.CHECKPOINT:
        return "is a PyTorch checkpoint: 'vlrun export' makes a model folder from it"
    if layout is Layout.UNKNOWN:
        return "holds no model that vlrun knows: it needs an OpenVINO model, or a checkpoint with safetensors"
    return f"holds only {layout.value}, which vlrun cannot run: use the original checkpoint with safetensors"


def precision_of(manifest: Manifest) -> str:
    """Return the precisions of a model in short: one, or decoder and vision encoder."""
    decoder, vision = manifest.quantization.decoder, manifest.quantization.vision
    return decoder if decoder == vision else f"{decoder}, vision {vision}"


def check_config(content: bytes, origin: str) -> str:
    """Return the family that a config.json names. Raises ForeignModel and DamagedModel."""
    model_type = _parse_config(content, origin).model_type
    family = family_of_model_type(model_type)
    if family is None:
        raise ForeignModel(f"'{origin}' is of type '{model_type[:80]}', but vlrun runs only dense Qwen3-VL models")
    return family


def check_convertible(content: bytes, origin: str) -> None:
    """Check the config.json of a checkpoint before its weights are there. Raises ForeignModel and DamagedModel."""
    check_config(content, origin)
    config = _parse_config(content, origin)
    if config.quantization_config is not None:
        method = str(config.quantization_config.get("quant_method", "unknown"))[:40]
        raise ForeignModel(
            f"'{origin}' is quantized already ({method}), which vlrun cannot convert: use the original checkpoint"
        )


class _Config(msgspec.Struct):
    model_type: str = ""
    quantization_config: dict[str, object] | None = None


def _parse_config(content: bytes, origin: str) -> _Config:
    try:
        return msgspec.json.decode(content, type=_Config)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {CONFIG} of '{origin}' is damaged ({error})") from error


def _describe_vlrun(folder: Path) -> ModelFacts:
    raw = manifests.read_bytes(folder)
    manifest = manifests.parse(raw, folder)
    nbytes = len(raw) + sum(entry.size for entry in manifest.files.values())
    fingerprint = hashlib.sha256(raw).hexdigest()
    precision = precision_of(manifest)
    return ModelFacts(
        manifest.name, manifest.family, Layout.VLRUN, "openvino", precision, "openvino", nbytes, fingerprint
    )


def _describe_optimum(folder: Path) -> ModelFacts:
    family = check_config(_read(folder, CONFIG), str(folder))
    with os.scandir(folder) as entries:
        nbytes = sum(entry.stat().st_size for entry in entries if entry.is_file())
    return ModelFacts(folder.name, family, Layout.OPTIMUM, "openvino", "", "openvino", nbytes, "")


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_regular(folder / name, MAX_CONFIG_BYTES)
    except OSError as error:
        raise DamagedModel(f"cannot read {name} in '{folder}': {error.strerror}") from error
