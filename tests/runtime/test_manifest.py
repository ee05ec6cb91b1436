"""The manifest of a model folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.model_folders import make_manifest, write_model_folder
from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, ForeignModel


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "model")


def test_a_written_manifest_is_read_back(model_folder: Path) -> None:
    read = manifests.read(model_folder)
    assert read == make_manifest(dict(read.files))


def test_a_manifest_must_list_every_required_file(model_folder: Path) -> None:
    files = dict(manifests.read(model_folder).files)
    del files["vision.bin"]
    manifests.write(make_manifest(files), model_folder)
    with pytest.raises(DamagedModel, match=r"does not list vision\.bin"):
        manifests.read(model_folder)


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    "text", ["", "null", "[1", '{"format": 1}', '{"format": 1, "family": "qwen3-vl"}', "[" * 100_000]
)
def test_an_unreadable_manifest_is_reported_as_damaged(model_folder: Path, text: str) -> None:
    """Deeply nested JSON must not raise RecursionError."""
    (model_folder / "manifest.json").write_text(text)
    with pytest.raises(DamagedModel, match="damaged"):
        manifests.read(model_folder)


@pytest.mark.parametrize("header", ['"format": 1, "family": "llama"', '"format": 2, "family": "qwen3-vl"'])
def test_another_family_or_format_is_reported_as_foreign(model_folder: Path, header: str) -> None:
    """The other fields are not parsed: another format may define them differently."""
    (model_folder / "manifest.json").write_text(f'{{{header}, "layers": "many"}}')
    with pytest.raises(ForeignModel, match="this vlrun reads"):
        manifests.read(model_folder)
