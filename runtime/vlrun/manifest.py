"""What a model folder promises: the contract between export and runtime.

A folder holds ``manifest.json``, two OpenVINO models (``vision.xml/.bin``, ``decoder.xml/.bin``), ``tokenizer.json``,
``chat_template.jinja`` and the checkpoint's own configuration files. The manifest names each file with its size and
SHA-256, and carries every number that the runtime needs, so that nothing is configured twice and nothing is guessed
from a file name. This module knows names, numbers and hashes; it does not know devices, tensors or text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from vlrun.errors import DamagedModel, ForeignModel, ModelNotFound

FORMAT = 1
"""Version of this contract. A reader refuses any other."""

FAMILY = "qwen3-vl"
MANIFEST = "manifest.json"
VISION_XML = "vision.xml"
VISION_BIN = "vision.bin"
DECODER_XML = "decoder.xml"
DECODER_BIN = "decoder.bin"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
REQUIRED = (VISION_XML, VISION_BIN, DECODER_XML, DECODER_BIN, TOKENIZER, CHAT_TEMPLATE)
"""Files without which a folder is no model."""

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]

HASH_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class TextDimensions:
    """The language decoder. ``vocab_rows`` counts rows of logits, ``vocab_size`` the tokens that really exist."""

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
    """The vision encoder. ``position_side`` is the side of the square learned position table, in patches."""

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
    """Ids with a meaning for the runtime. Generation ends at any id of ``eos``."""

    image: Count
    video: Count
    vision_start: Count
    vision_end: Count
    eos: tuple[Count, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Still images: limits of H x W after resizing, in pixels; mean and standard deviation of RGB in 0..1."""

    min_pixels: Positive
    max_pixels: Positive
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class GenerationDefaults:
    """Sampling settings used where the caller gives none. ``do_sample`` false means greedy."""

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
    """Precision of the weights of each half (``int4``, ``int8``, ``fp16``, ``fp32``) and how it was reached."""

    decoder: str
    vision: str
    recipe: str


@dataclass(frozen=True)
class CheckResult:
    """One figure of the export's self-check: passed if ``value`` lies on the good side of ``limit``."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class FileEntry:
    """What a file must be: bytes and SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A whole model folder. ``check`` is empty if the export ran with ``--no-check``."""

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
    """Read ``folder/manifest.json`` and check it, but no other file.

    Raises ModelNotFound without a folder or manifest, ForeignModel for another format or family, DamagedModel for a
    manifest that does not parse.
    """
    try:
        if not folder.is_dir():
            raise ModelNotFound(f"no model folder at '{folder}': 'vlrun export' makes one from a checkpoint")
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise ModelNotFound(f"'{folder}' holds no {MANIFEST}: export a checkpoint with 'vlrun export' first") from None
    except OSError as error:
        raise ModelNotFound(f"cannot read the {MANIFEST} of '{folder}': {error.strerror}") from error
    _check_header(raw, folder)
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' is damaged ({error}): export or copy it again") from error
    absent = [name for name in REQUIRED if name not in manifest.files]
    if absent:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' does not list {absent[0]}: export or copy it again")
    return manifest


def write(manifest: Manifest, folder: Path) -> None:
    """Write ``folder/manifest.json``, readable by people."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(encoded + b"\n")


def check_sizes(manifest: Manifest, folder: Path) -> None:
    """Check that every listed file is there with its size. Costs a few system calls; done at every load.

    Raises DamagedModel with the name of the first file that is not what it must be.
    """
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
    """Check the SHA-256 of every listed file: reads the whole folder.

    Raises DamagedModel with the name of the first file that was changed.
    """
    for name, entry in manifest.files.items():
        if _described(folder, name).sha256 != entry.sha256:
            raise DamagedModel(f"{name} in '{folder}' is not the file that was exported: export or copy it again")


def describe_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(HASH_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    return FileEntry(size=size, sha256=digest.hexdigest())


def _described(folder: Path, name: str) -> FileEntry:
    """``describe_file``, or DamagedModel if the file cannot be read."""
    try:
        return describe_file(_inside(folder, name))
    except OSError as error:
        raise DamagedModel(f"cannot read {name} in '{folder}': {error.strerror}") from error


def fingerprint(folder: Path) -> str:
    """SHA-256 of the manifest itself: it covers every file through its hash, so it names the model."""
    return describe_file(folder / MANIFEST).sha256


@dataclass(frozen=True)
class _Header:
    """The two fields that every version of the contract has."""

    format: int
    family: str


def _check_header(raw: bytes, folder: Path) -> None:
    try:
        header = msgspec.json.decode(raw, type=_Header)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' is damaged ({error}): export or copy it again") from error
    if header.format != FORMAT:
        raise ForeignModel(
            f"'{folder}' has format {header.format}, but this vlrun reads format {FORMAT}: export it again"
        )
    if header.family != FAMILY:
        raise ForeignModel(f"'{folder}' is of family '{header.family}', but this vlrun reads only '{FAMILY}'")


def _inside(folder: Path, name: str) -> Path:
    """``folder/name``, for a plain file name only: a manifest must not reach out of its folder."""
    if name != Path(name).name or name in {"", ".", ".."}:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' names a file outside of it: '{name}'")
    return folder / name
