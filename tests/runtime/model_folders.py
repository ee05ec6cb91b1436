"""Model folders without a model: a valid manifest over small text files."""

from __future__ import annotations

import random
from pathlib import Path

from vlrun import manifest as manifests
from vlrun.manifest import (
    CheckResult,
    FileEntry,
    GenerationDefaults,
    Manifest,
    Preprocessing,
    Quantization,
    TextDimensions,
    TokenIds,
    VisionDimensions,
)


def write_model_folder(folder: Path, weights: int = 0) -> Path:
    """Create ``folder`` with every required file, its own name as content, and decoder weights of many bytes."""
    folder.mkdir()
    for name in manifests.REQUIRED:
        (folder / name).write_text(name * 10)
    if weights:
        (folder / manifests.DECODER_BIN).write_bytes(random.Random(weights).randbytes(weights))
    manifests.write(
        make_manifest({name: manifests.describe_file(folder / name) for name in manifests.REQUIRED}), folder
    )
    return folder


def make_manifest(files: dict[str, FileEntry]) -> Manifest:
    return Manifest(
        format=manifests.FORMAT,
        family=manifests.FAMILY,
        name="letters",
        text=TextDimensions(64, 4, 4, 2, 32, 448, 400, 4096),
        vision=VisionDimensions(48, 3, 5, 16, 2, 2, 7, 2),
        tokens=TokenIds(5, 6, 7, 8, (9, 10)),
        preprocessing=Preprocessing(4096, 65536, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        generation=GenerationDefaults(do_sample=True, temperature=0.7, presence_penalty=1.5),
        quantization=Quantization("int8", "int8", "per channel"),
        tools={"openvino": "2026.4.1"},
        check=(CheckResult("logits", 1e-5, 1e-4, True),),
        files=files,
    )
