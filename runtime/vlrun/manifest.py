"""The manifest of a model folder: the contract between export and runtime.

A folder has ``manifest.json``, two OpenVINO models, the tokenizer, the chat template and the checkpoint's configuration
files. The manifest has every number that the runtime needs, and the size and SHA-256 of each file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from vlrun.errors import DamagedModel, ForeignModel, ModelNotFound

FORMAT = 1
"""Version of the folder format; no other version is read."""

FAMILY = "qwen3-vl"
"""The only model family so far (``models.registry``)."""

MANIFEST = "manifest.json"
VISION_XML = "vision.xml"
VISION_BIN = "vision.bin"
DECODER_XML = "decoder.xml"
DECODER_BIN = "decoder.bin"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
REQUIRED = (VISION_XML, VISION_BIN, DECODER_XML, DECODER_BIN, TOKENIZER, CHAT_TEMPLATE)
"""Files that every model folder has."""

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
T = TypeVar("T")


@dataclass(frozen=True)
class TextDimensions:
    """Dimensions of the language decoder.

    Attributes:
        vocab_rows: Length of the logits, with padding.
        vocab_size: Number of tokens.
    """

    hidden: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    head_dim: Positive
    vocab_rows: Positive
    vocab_size: Positive
    max_positions: Positive


@dataclass(frozen=True)
class VisionDimensions:
    """Dimensions of the vision encoder.

    Attributes:
        patch: Side of a patch in pixels.
        temporal_patch: Frames per patch; a still image is repeated.
        merge: Side of the block of patches that becomes one visual token.
        position_side: Side of the learned position table in patches.
        deepstack: Number of DeepStack levels.
    """

    hidden: Positive
    heads: Positive
    depth: Positive
    patch: Positive
    temporal_patch: Positive
    merge: Positive
    position_side: Positive
    deepstack: Count
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class TokenIds:
    """Ids of control tokens. Any id of ``eos`` ends generation."""

    image: Count
    video: Count
    vision_start: Count
    vision_end: Count
    eos: tuple[Count, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of still images.

    Attributes:
        min_pixels: Minimum of width x height after resizing.
        max_pixels: Maximum of width x height after resizing.
        mean: Mean of R, G, B in 0..1.
        std: Standard deviation of R, G, B in 0..1.
    """

    min_pixels: Positive
    max_pixels: Positive
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class GenerationDefaults:
    """The model's default sampling parameters. Without ``do_sample``, decoding is greedy."""

    do_sample: bool
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True)
class Quantization:
    """Weight precision of both models (``int4``, ``int8``, ``fp16``, ``fp32``), and the method."""

    decoder: str
    vision: str
    recipe: str


@dataclass(frozen=True)
class CheckResult:
    """One measurement of the export's self-check."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``. ``check`` is empty if the export ran with ``--no-check``."""

    format: int
    family: str
    name: str
    text: TextDimensions
    vision: VisionDimensions
    tokens: TokenIds
    preprocessing: Preprocessing
    generation: GenerationDefaults
    quantization: Quantization
    tools: Mapping[str, str]
    check: tuple[CheckResult, ...]
    files: Mapping[str, FileEntry]


def read(folder: Path) -> Manifest:
    """Read and check ``folder/manifest.json``, but no other file.

    Raises:
        ModelNotFound: The folder or its manifest does not exist.
        ForeignModel: The format or family is not supported.
        DamagedModel: The manifest does not parse, or does not list a required file.
    """
    try:
        if not folder.is_dir():
            raise ModelNotFound(f"no model folder at '{folder}': 'vlrun export' makes one from a checkpoint")
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise ModelNotFound(f"'{folder}' has no {MANIFEST}: export a checkpoint with 'vlrun export' first") from None
    except OSError as error:
        raise ModelNotFound(f"cannot read the {MANIFEST} of '{folder}': {error.strerror}") from error
    header = _decode(raw, _Header, folder)
    if header.format != FORMAT:
        raise ForeignModel(
            f"'{folder}' has format {header.format}, but this vlrun reads format {FORMAT}: export it again"
        )
    if header.family != FAMILY:
        raise ForeignModel(f"'{folder}' is of family '{header.family}', but this vlrun reads only '{FAMILY}'")
    manifest = _decode(raw, Manifest, folder)
    missing = [name for name in REQUIRED if name not in manifest.files]
    if missing:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' does not list {missing[0]}: export or copy it again")
    return manifest


def write(manifest: Manifest, folder: Path) -> None:
    """Write ``folder/manifest.json``, indented."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(encoded + b"\n")


def check_sizes(manifest: Manifest, folder: Path) -> None:
    """Raise DamagedModel if a listed file is missing or has another size. Cheap; done at every load."""
    for name, entry in manifest.files.items():
        path = _inside(folder, name)
        if not path.is_file():
            raise DamagedModel(f"'{folder}' lacks {name}: export or copy it again")
        size = path.stat().st_size
        if size != entry.size:
            raise DamagedModel(
                f"{name} in '{folder}' has {size:,} bytes instead of {entry.size:,}: export or copy it again"
            )


def check_hashes(manifest: Manifest, folder: Path) -> None:
    """Raise DamagedModel if the SHA-256 of a listed file differs. Reads the whole folder."""
    for name, entry in manifest.files.items():
        try:
            actual = describe_file(_inside(folder, name))
        except OSError as error:
            raise DamagedModel(f"cannot read {name} in '{folder}': {error.strerror}") from error
        if actual.sha256 != entry.sha256:
            raise DamagedModel(f"{name} in '{folder}' is not the file that was exported: export or copy it again")


def describe_file(path: Path) -> FileEntry:
    """Return the size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(size=file.tell(), sha256=digest.hexdigest())


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the manifest. It identifies the model, because the manifest has the hash of every file."""
    return describe_file(folder / MANIFEST).sha256


@dataclass(frozen=True)
class _Header:
    """The fields that every version of the format has."""

    format: int
    family: str


def _decode(raw: bytes, kind: type[T], folder: Path) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' is damaged ({error}): export or copy it again") from error


def _inside(folder: Path, name: str) -> Path:
    """Return ``folder/name``. Raises DamagedModel for a name outside the folder."""
    if name != Path(name).name or name in {"", ".", ".."}:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' names a file outside of it: '{name}'")
    return folder / name
