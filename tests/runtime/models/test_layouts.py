"""What a folder or a repository holds, told by names, and its facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.model_folders import write_model_folder
from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, ForeignModel
from vlrun.models.layouts import Layout, describe, layout_of

OPTIMUM = ["openvino_language_model.xml", "openvino_language_model.bin", "config.json"]
CASES = [
    (["manifest.json", "decoder.xml"], Layout.VLRUN),
    (["manifest.json"], Layout.UNKNOWN),  # of another program
    (OPTIMUM, Layout.OPTIMUM),
    ([*OPTIMUM, "model.safetensors"], Layout.OPTIMUM),  # what is ready comes first
    (["config.json", "model.safetensors", "model.gguf", "pytorch_model.bin"], Layout.CHECKPOINT),
    (["config.json", "pytorch_model.bin"], Layout.PICKLE),
    (["config.json", "model.onnx"], Layout.ONNX),
    (["a.gguf"], Layout.GGUF),
    ([], Layout.UNKNOWN),
]


@pytest.mark.parametrize(("names", "layout"), CASES, ids=str)
def test_layouts(names: list[str], layout: Layout) -> None:
    assert layout_of(names) is layout


def test_the_facts_of_a_folder_of_vlrun(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "any")
    facts = describe(folder)
    assert (facts.name, facts.family, facts.layout) == ("letters", "qwen3-vl", Layout.VLRUN)
    assert (facts.format, facts.precision, facts.backend) == ("openvino", "int8", "openvino")
    assert facts.nbytes == sum(path.stat().st_size for path in folder.iterdir())


def test_the_precision_of_both_halves(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "any")
    path = folder / manifests.MANIFEST
    path.write_text(path.read_text().replace('"decoder": "int8"', '"decoder": "int4"'))
    assert describe(folder).precision == "int4, vision int8"


def test_the_facts_of_a_folder_of_optimum(tmp_path: Path) -> None:
    for name in OPTIMUM:
        (tmp_path / name).write_text('{"model_type": "qwen3_vl"}')
    facts = describe(tmp_path)
    assert (facts.family, facts.layout, facts.format) == ("qwen3-vl", Layout.OPTIMUM, "openvino")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ForeignModel, match="is of type 'llama'"):
        describe(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DamagedModel, match="is damaged"):
        describe(tmp_path)
