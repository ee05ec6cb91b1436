"""Folders of optimum-intel have no manifest: what describes them, and which folders are refused.

Their graphs are stubs here, which nothing reads; the configuration files are those of the embedded model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlrun.embedded import FOLDER
from vlrun.errors import DamagedModel, ForeignModel, ModelChanged, ModelError, ModelNotFound
from vlrun.layout import OPTIMUM
from vlrun.manifest import CHAT_TEMPLATE, MANIFEST
from vlrun.models import model_folder as model_folders
from vlrun.models.model_folder import ModelFolder
from vlrun.models.ready_folder import folder_kind
from vlrun.models.verification import verify
from vlrun.prompt.tokenizer import load_tokenizer

CONFIGURATION = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    CHAT_TEMPLATE,
)
LANGUAGE_XML, LANGUAGE_BIN = OPTIMUM.files[:2]


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in CONFIGURATION:
        shutil.copy(FOLDER / name, folder)
    for name in OPTIMUM.files:
        (folder / name).write_text(f'<data element_type="u8"/> {name}')
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_folder(tmp_path / "model")


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_the_configuration_files_give_the_same_facts_as_an_export(folder: Path) -> None:
    """Guards dimensions, token ids, sampling and preprocessing that would differ between layouts of one model."""
    opened, exported = ModelFolder(folder), ModelFolder(FOLDER)
    for field in ("text", "vision", "tokens", "preprocessing", "generation"):
        assert getattr(opened.manifest, field) == getattr(exported.manifest, field)
    assert opened.manifest.name == "model"
    assert opened.manifest.quantization.decoder == opened.manifest.quantization.vision == "int8"
    assert opened.chat_template() == exported.chat_template()
    load_tokenizer(opened.read("tokenizer.json"), opened)


def test_the_fingerprint_is_of_the_content_alone(folder: Path, tmp_path: Path) -> None:
    """Guards caches that a copied folder would lose, and caches of another model that it would get."""
    fingerprint = ModelFolder(folder).fingerprint
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert ModelFolder(copy).fingerprint == fingerprint
    for name in (LANGUAGE_BIN, "config.json", CHAT_TEMPLATE):
        path = copy / name
        path.write_text(path.read_text() + " ")
        changed = ModelFolder(copy).fingerprint
        assert changed != fingerprint
        fingerprint = changed


def test_files_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a start that reads gigabytes each time."""
    first = ModelFolder(folder)
    monkeypatch.setattr(ModelFolder, "hash", lambda self, name: pytest.fail(f"{name} is hashed again"))
    again = ModelFolder(folder)
    verify(again)
    assert again.manifest == first.manifest
    assert again.fingerprint == first.fingerprint


def test_nothing_is_written_to_the_folder(folder: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in (folder, *folder.iterdir()))
    verify(ModelFolder(folder), again=True)
    assert sorted(path.stat().st_mtime_ns for path in (folder, *folder.iterdir())) == before


@pytest.mark.parametrize("content", [b"", b"{}", b"damaged" * 100])
def test_a_damaged_description_is_made_again(folder: Path, tmp_path: Path, content: bytes) -> None:
    fingerprint = ModelFolder(folder).fingerprint
    (record,) = (tmp_path / "cache" / "vlrun" / "described").iterdir()
    record.write_bytes(content)
    assert ModelFolder(folder).fingerprint == fingerprint
    assert record.read_bytes() != content


def test_a_folder_is_described_without_a_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = ModelFolder(folder).fingerprint
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert ModelFolder(folder).fingerprint == fingerprint


def test_a_change_under_the_running_model_is_noticed(folder: Path) -> None:
    opened = ModelFolder(folder)
    (folder / LANGUAGE_BIN).write_text("cut")
    with pytest.raises(ModelChanged, match=LANGUAGE_BIN):
        opened.check_unchanged(LANGUAGE_BIN)


def test_a_change_while_the_folder_is_described_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a hash of one content and a stamp of another: a copy that still runs."""
    original = ModelFolder.hash

    def growing(self: ModelFolder, name: str) -> str:
        (folder / LANGUAGE_BIN).write_text("grown")
        return original(self, name)

    monkeypatch.setattr(model_folders.ModelFolder, "hash", growing)
    with pytest.raises(DamagedModel, match="changes while it is read"):
        ModelFolder(folder)


def test_the_template_may_lie_in_the_tokenizers_configuration(folder: Path) -> None:
    """As transformers wrote it before 4.52."""
    template = (folder / CHAT_TEMPLATE).read_text()
    (folder / CHAT_TEMPLATE).unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    assert ModelFolder(folder).chat_template() == template


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


REFUSED: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "mixture of experts": (
        lambda folder: change_config(folder, lambda c: c.update(model_type="qwen3_vl_moe")),
        ForeignModel,
        "'qwen3_vl_moe', a mixture of experts; only the dense Qwen3-VL family .*: use one of these",
    ),
    "another architecture": (
        lambda folder: change_config(folder, lambda c: c.update(model_type="internvl_chat")),
        ForeignModel,
        "'internvl_chat'; only the dense Qwen3-VL family .*: use one of these",
    ),
    "GPTQ": (
        lambda folder: change_config(folder, lambda c: c.update(quantization_config={"quant_method": "gptq"})),
        ForeignModel,
        r"already quantized \(GPTQ\): use the original bf16 checkpoint",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), DamagedModel, "lacks config.json"),
    "broken configuration": (
        lambda folder: (folder / "config.json").write_text("{"),
        DamagedModel,
        "config.json of .* is not valid JSON",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), DamagedModel, "lacks tokenizer.json"),
    "broken tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        DamagedModel,
        "tokenizer.json of .* is broken",
    ),
    "no template": (lambda folder: (folder / CHAT_TEMPLATE).unlink(), DamagedModel, "no chat template"),
    "no preprocessing": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        DamagedModel,
        "lacks preprocessor_config.json",
    ),
    "a text model": (
        lambda folder: (folder / LANGUAGE_XML).rename(folder / "openvino_model.xml"),
        ForeignModel,
        "is an OpenVINO model of another kind",
    ),
    **{f"no {name}": (remove(name), DamagedModel, f"lacks {name}") for name in OPTIMUM.files[1:]},
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_other_folders_are_refused_in_one_sentence(
    folder: Path, case: tuple[Callable[[Path], object], type[ModelError], str]
) -> None:
    change, kind, message = case
    change(folder)
    with pytest.raises(kind, match=message) as refused:
        ModelFolder(folder)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 4


def test_a_pytorch_checkpoint_is_to_be_exported(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(ModelNotFound, match="is a PyTorch checkpoint: make a model of it with 'vlrun export"):
        ModelFolder(tmp_path)


def test_folder_kinds() -> None:
    assert folder_kind([MANIFEST, LANGUAGE_XML]) == "vlrun"
    assert folder_kind(OPTIMUM.files) == "optimum"
    assert folder_kind(["config.json", "model-00001-of-00002.safetensors"]) == "checkpoint"
    assert folder_kind(["openvino_model.xml"]) is None
    assert folder_kind([]) is None
