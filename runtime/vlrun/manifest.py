"""The manifest of a model folder: the contract between export and runtime.

A folder has ``manifest.json``, two models (``layout.py`` names their files), the tokenizer, the chat template and the
checkpoint's configuration files. The manifest has every number that the runtime needs, and the size and SHA-256 of each
file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from vlrun.errors import DamagedModel, ForeignModel, ModelNotFound
from vlrun.layout import LAYOUTS, ONNX, VLRUN
from vlrun.storage.regular_files import read_regular
from vlrun.types.video_rules import PUBLISHED_RULES, VideoRules

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
"""Files that every model folder of vlrun's own layout has."""

MAX_MANIFEST_BYTES = 1 << 20
"""Bytes of ``manifest.json``; one of today has 4 kB."""

# Bounds far above every published model, so that a damaged number cannot fill the memory.
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 18)]
"""Hidden sizes, heads and head sizes."""
Layers: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Levels: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1024)]
Vocabulary: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Positions: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 26)]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4096)]
PatchSide: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=128)]
Factor: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=16)]
MinPixels: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 22)]
"""Smaller images are enlarged to it."""
MaxPixels: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
FileSize: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Temperature: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=100)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
PositiveShare: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
Penalty: TypeAlias = Annotated[float, msgspec.Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, msgspec.Meta(ge=0.01, le=100)]
TopK: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
Mean: TypeAlias = Annotated[float, msgspec.Meta(ge=-16, le=16)]
Deviation: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=16)]
Base: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
T = TypeVar("T")


@dataclass(frozen=True)
class TextDimensions:
    """Dimensions of the language decoder.

    Attributes:
        vocab_rows: Length of the logits, with padding.
        vocab_size: Number of tokens.
    """

    hidden: Size
    layers: Layers
    heads: Size
    kv_heads: Size
    head_dim: Size
    vocab_rows: Vocabulary
    vocab_size: Vocabulary
    max_positions: Positions


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

    hidden: Size
    heads: Size
    depth: Layers
    patch: PatchSide
    temporal_patch: Factor
    merge: Factor
    position_side: Side
    deepstack: Levels
    rope_theta: Base = 10000.0


@dataclass(frozen=True)
class TokenIds:
    """Ids of control tokens. Any id of ``eos`` ends generation."""

    image: TokenId
    video: TokenId
    vision_start: TokenId
    vision_end: TokenId
    eos: Annotated[tuple[TokenId, ...], msgspec.Meta(min_length=1, max_length=64)]


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of still images.

    Attributes:
        min_pixels: Minimum of width x height after resizing.
        max_pixels: Maximum of width x height after resizing.
        mean: Mean of R, G, B in 0..1.
        std: Standard deviation of R, G, B in 0..1.
    """

    min_pixels: MinPixels
    max_pixels: MaxPixels
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


@dataclass(frozen=True)
class GenerationDefaults:
    """The model's default sampling parameters. Without ``do_sample``, decoding is greedy."""

    do_sample: bool
    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: PositiveShare = 1.0
    min_p: Share = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0


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

    size: FileSize
    sha256: Sha256


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``. ``check`` is empty if the export ran with ``--no-check``.

    Attributes:
        layout: Name of the folder's layout (``layout.LAYOUTS``).
        video: Sampling and sizes of video frames; in older folders those of the published models.
    """

    format: int
    family: str
    name: Name
    text: TextDimensions
    vision: VisionDimensions
    tokens: TokenIds
    preprocessing: Preprocessing
    generation: GenerationDefaults
    quantization: Quantization
    tools: Mapping[str, str]
    check: tuple[CheckResult, ...]
    files: Annotated[Mapping[Name, FileEntry], msgspec.Meta(max_length=64)]
    layout: str = VLRUN.name
    video: VideoRules = PUBLISHED_RULES

    def weight_bytes(self) -> tuple[int, int]:
        """Return the sizes of the decoder's and of the vision encoder's weights."""
        layout = LAYOUTS[self.layout]
        decoder, vision = (
            sum(self.files[layout.weights_file(graph)].size for graph in graphs)
            for graphs in (layout.decoder, layout.vision)
        )
        return decoder, vision


def read(folder: Path) -> Manifest:
    """Read and check ``folder/manifest.json``, but no other file. Raises as ``parse``, and ModelNotFound."""
    return parse(read_bytes(folder), folder)


def read_bytes(folder: Path, descriptor: int | None = None) -> bytes:
    """Return the content of ``folder/manifest.json``.

    Args:
        folder: The model folder.
        descriptor: The opened folder, if it is open already.

    Raises:
        ModelNotFound: The folder or its manifest does not exist.
        DamagedModel: It is not a regular file, or much too large.
    """
    try:
        if descriptor is None and not folder.is_dir():
            raise ModelNotFound(f"no model folder at '{folder}': 'vlrun export' makes one from a checkpoint")
        path = Path(MANIFEST) if descriptor is not None else folder / MANIFEST
        return read_regular(path, MAX_MANIFEST_BYTES, folder=descriptor)
    except FileNotFoundError:
        raise ModelNotFound(f"'{folder}' has no {MANIFEST}: export a checkpoint with 'vlrun export' first") from None
    except PermissionError as error:
        raise ModelNotFound(f"cannot read the {MANIFEST} of '{folder}': {error.strerror}") from error
    except OSError as error:
        raise DamagedModel(f"cannot read the {MANIFEST} of '{folder}': {error.strerror}") from error


def parse(raw: bytes, folder: Path) -> Manifest:
    """Parse and check the content of ``folder/manifest.json``.

    Raises:
        ForeignModel: The format or family is not supported.
        DamagedModel: It does not parse, a number is impossible, or a required file is not listed.
    """
    header = _decode(raw, _Header, folder)
    if header.format != FORMAT:
        raise ForeignModel(
            f"'{folder}' has format {header.format}, but this vlrun reads format {FORMAT}: export it again"
        )
    if header.family != FAMILY:
        raise ForeignModel(f"'{folder}' is of family '{header.family}', but this vlrun reads only '{FAMILY}'")
    if header.layout not in LAYOUTS:
        raise ForeignModel(
            f"'{folder}' has the layout '{header.layout}', which this vlrun does not know: use a newer vlrun"
        )
    manifest = _decode(raw, Manifest, folder)
    for problem in _problems(manifest):
        raise DamagedModel(f"the {MANIFEST} of '{folder}' {problem}: export or copy it again")
    return manifest


def write(manifest: Manifest, folder: Path) -> None:
    """Write ``folder/manifest.json``, indented."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(encoded + b"\n")


def describe_file(path: Path) -> FileEntry:
    """Return the size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(size=file.tell(), sha256=digest.hexdigest())


@dataclass(frozen=True)
class _Header:
    """The fields that every version of the format has."""

    format: int
    family: str
    layout: str = VLRUN.name


def _decode(raw: bytes, kind: type[T], folder: Path) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedModel(f"the {MANIFEST} of '{folder}' is damaged ({error}): export or copy it again") from error


def _problems(manifest: Manifest) -> Iterator[str]:
    """Yield what contradicts itself in a manifest whose numbers are each possible."""
    required = [*LAYOUTS[manifest.layout].files, TOKENIZER]
    if manifest.layout in (VLRUN.name, ONNX.name):  # elsewhere the template may lie in another file
        required.append(CHAT_TEMPLATE)
    yield from (f"does not list {name}" for name in required if name not in manifest.files)
    for name in manifest.files:
        if Path(name).name != name or name == ".." or "\0" in name:
            yield f"names a file outside of the folder: '{name}'"
    text, ids = manifest.text, manifest.tokens
    if text.vocab_size > text.vocab_rows:
        yield f"has more tokens ({text.vocab_size}) than rows of logits ({text.vocab_rows})"
    if max(ids.image, ids.video, ids.vision_start, ids.vision_end, *ids.eos) >= text.vocab_size:
        yield f"names a token beyond the {text.vocab_size} of the vocabulary"
    if text.heads % text.kv_heads or text.head_dim % 2:
        yield f"has impossible heads ({text.heads} of {text.head_dim}, {text.kv_heads} for keys and values)"
    yield from _vision_problems(manifest)


def _vision_problems(manifest: Manifest) -> Iterator[str]:
    vision, images = manifest.vision, manifest.preprocessing
    if vision.hidden % vision.heads or vision.hidden // vision.heads % 4:
        yield f"has impossible vision heads ({vision.heads} for a hidden size of {vision.hidden})"
    if vision.deepstack > min(vision.depth, manifest.text.layers):
        yield f"has more DeepStack levels ({vision.deepstack}) than layers"
    if images.min_pixels > images.max_pixels:
        yield f"has a minimum of {images.min_pixels} pixels above the maximum of {images.max_pixels}"
