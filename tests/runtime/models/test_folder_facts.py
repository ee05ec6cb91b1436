"""What a folder or a repository holds, told by names, and the facts of model folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.runtime.model_folders import write_model_folder
from vlrun import manifest as manifests
from vlrun.errors import ForeignModel, ModelNotFound
from vlrun.layout import ONNX
from vlrun.models.folder_facts import Content, content_of, describe

OPTIMUM = ["openvino_language_model.xml", "openvino_language_model.bin", "config.json"]
CASES = [
    (["manifest.json", "decoder.xml"], Content.VLRUN),
    (["manifest.json", "decoder.onnx"], Content.VLRUN),
    (["manifest.json"], Content.UNKNOWN),  # of another program
    (["manifest.json", "config.json", "model.safetensors"], Content.CHECKPOINT),
    (OPTIMUM, Content.OPTIMUM),
    ([*OPTIMUM, "manifest.json"], Content.VLRUN),  # vlrun export --layout optimum
    ([*OPTIMUM, "model.safetensors"], Content.OPTIMUM),  # what is ready comes first
    (["config.json", "model.safetensors", "model.gguf", "pytorch_model.bin"], Content.CHECKPOINT),
    (["config.json", "pytorch_model.bin"], Content.PICKLE),
    (["config.json", "model.onnx"], Content.ONNX),
    (["a.gguf"], Content.GGUF),
    ([], Content.UNKNOWN),
]


@pytest.mark.parametrize(("names", "content"), CASES, ids=str)
def test_contents(names: list[str], content: Content) -> None:
    assert content_of(names) is content


def test_the_facts_of_a_folder(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "any")
    facts = describe(folder)
    assert (facts.name, facts.family, facts.layout) == ("letters", "qwen3-vl", "vlrun")
    assert (facts.format, facts.precision, facts.backend) == ("openvino", "int8", "openvino")
    files = manifests.read(folder).files
    assert facts.nbytes == sum(entry.size for entry in files.values())


def test_the_precision_of_both_halves(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "any")
    path = folder / manifests.MANIFEST
    path.write_text(path.read_text().replace('"decoder": "int8"', '"decoder": "int4"'))
    assert describe(folder).precision == "int4, vision int8"


def test_the_facts_of_an_onnx_folder(tmp_path: Path) -> None:
    """Guards a listing that takes every model for one of OpenVINO."""
    folder = write_model_folder(tmp_path / "any")
    for name in ONNX.files:
        (folder / name).write_text(name)
    names = (*ONNX.files, manifests.TOKENIZER, manifests.CHAT_TEMPLATE)
    files = {name: manifests.describe_file(folder / name) for name in names}
    manifests.write(dataclasses.replace(manifests.read(folder), layout=ONNX.name, files=files), folder)
    facts = describe(folder)
    assert (facts.format, facts.layout, facts.backend) == ("onnx", "onnx", "onnxruntime")


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="No such file"):
        describe(tmp_path / "nothing")
    with pytest.raises(ForeignModel, match="holds no model that vlrun knows"):
        describe(tmp_path)
