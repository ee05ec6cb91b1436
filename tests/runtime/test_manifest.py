"""The manifest of a model folder, and the record of verified folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, ForeignModel
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
from vlrun.models.verification import verify


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small text files: enough for names, sizes and hashes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in manifests.REQUIRED:
        (folder / name).write_text(name * 10)
    manifests.write(manifest({name: manifests.describe_file(folder / name) for name in manifests.REQUIRED}), folder)
    return folder


def manifest(files: dict[str, FileEntry]) -> Manifest:
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


def test_round_trip(folder: Path) -> None:
    """Guards the format: what export writes is what the runtime reads."""
    read = manifests.read(folder)
    assert read == manifest(dict(read.files))


@pytest.mark.fault(36)
def test_hashes_are_checked_once_and_after_a_change(folder: Path) -> None:
    """Guards both halves of 'once': a verified folder is not read again, a modified one is, and a changed byte is found
    although the folder was fine before.
    """
    verify(manifests.read(folder), folder)
    target = folder / "decoder.bin"
    kept = target.stat()
    target.write_text("X" + target.read_text()[1:])
    os.utime(target, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    verify(manifests.read(folder), folder)  # a change that hides its time is not seen without reading ...
    with pytest.raises(DamagedModel, match=r"decoder\.bin"):
        verify(manifests.read(folder), folder, again=True)  # ... but on demand it is
    os.utime(target)
    with pytest.raises(DamagedModel, match=r"decoder\.bin"):
        verify(manifests.read(folder), folder)


def test_a_manifest_must_list_every_required_file(folder: Path) -> None:
    """Guards against a folder that matches its manifest but lacks a file that every model needs."""
    files = dict(manifests.read(folder).files)
    del files["vision.bin"]
    manifests.write(manifest(files), folder)
    with pytest.raises(DamagedModel, match=r"does not list vision\.bin"):
        manifests.read(folder)


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    "text", ["", "null", "[1", '{"format": 1}', '{"format": 1, "family": "qwen3-vl"}', "[" * 100_000]
)
def test_an_unreadable_manifest_is_reported(folder: Path, text: str) -> None:
    """Guards against stack traces from broken JSON, deep nesting included."""
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DamagedModel, match="damaged"):
        manifests.read(folder)


@pytest.mark.parametrize("header", ['"format": 1, "family": "llama"', '"format": 2, "family": "qwen3-vl"'])
def test_another_family_or_format_is_not_called_damaged(folder: Path, header: str) -> None:
    """Guards the user of an intact folder that this vlrun cannot read: its other fields are never parsed."""
    (folder / "manifest.json").write_text(f'{{{header}, "layers": "many"}}')
    with pytest.raises(ForeignModel, match="this vlrun reads"):
        manifests.read(folder)
