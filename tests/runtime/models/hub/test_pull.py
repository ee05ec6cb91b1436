"""Pulling: complete or not visible, the right files, the pinned commit, two at once, and conversion."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.hub_server import Fault, HubServer
from tests.runtime.model_folders import write_model_folder
from tests.runtime.models.hub.conftest import WEIGHTS
from tests.runtime.models.hub.pulling import REPOSITORY, content, pull, tree, visible
from vlrun.embedded import FOLDER
from vlrun.errors import ForeignModel, HubRefused, ModelError, OptionError
from vlrun.layout import OPTIMUM
from vlrun.manifest import DECODER_BIN, MANIFEST
from vlrun.models.folder_facts import describe
from vlrun.models.store import store
from vlrun.models.store.source import SOURCE, read_source
from vlrun.models.store.store import ModelStore
from vlrun.models.store.transfer import verify_model

CONFIG = (FOLDER / "config.json").read_bytes()
CHECKPOINT = {
    "config.json": CONFIG,
    "generation_config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
    "model-1.safetensors": b"1" * 1000,
    "model-2.safetensors": b"2" * 2000,
    "LICENSE": b"Apache",
}
UNWANTED = {
    "README.md": b"#",
    ".gitattributes": b"*",
    "model.gguf": b"g",
    "pytorch_model.bin": b"p",
    "consolidated.safetensors": b"c",
    "onnx/model.onnx": b"o",
    "picture.png": b"x",
}


def test_a_ready_model_is_used_as_it_is(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    """Every byte is that of the repository, and the commit is recorded."""
    hub.repositories[REPOSITORY].files.update(UNWANTED)
    pulled = pull(hub, tmp_path)
    assert (pulled.name, pulled.is_new) == ("letters", True)
    files = content(pulled.folder)
    del files[SOURCE]
    assert files == content(letters)
    source = read_source(pulled.folder)
    assert source is not None
    assert (source.origin, source.revision) == (REPOSITORY, "main")
    assert source.commit == hub.repositories[REPOSITORY].revisions["main"]
    assert {*source.files} == {*files}
    assert not [path for path in tree(tmp_path) if path.startswith(".partial")]


def test_the_same_revision_is_not_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    pull(hub, tmp_path)
    hub.requests.clear()
    assert not pull(hub, tmp_path).is_new
    assert hub.fetched() == []


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_new_commit_replaces_the_model(
    exchanges: bool, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a half-replaced model, and files of the former commit that stay; also on a file system that lacks it."""
    if not exchanges:
        monkeypatch.setattr(store, "exchange", lambda *_: False)
    first = pull(hub, tmp_path)
    folder = write_model_folder(tmp_path / "newer", WEIGHTS + 1)
    hub.publish_folder(REPOSITORY, folder)
    second = pull(hub, tmp_path)
    assert second.is_new
    assert second.source.commit != first.source.commit
    assert (second.folder / DECODER_BIN).stat().st_size == WEIGHTS + 1
    assert visible(tmp_path) == ["letters", "newer"]  # the folder that the test made lies there too
    assert not ModelStore(tmp_path).unfinished()


@pytest.mark.fault(40)
def test_a_revision_is_pinned_while_it_is_pulled(hub: HubServer, tmp_path: Path) -> None:
    """Guards a mixture of two commits: every file is asked for by the commit, not by the branch."""
    commit = hub.repositories[REPOSITORY].revisions["main"]
    pull(hub, tmp_path, f"{REPOSITORY}@main")
    assert all(f"/resolve/{commit}/" in path for method, path, _ in hub.requests if "/resolve/" in path)


def test_a_name_of_another_model_is_not_taken(hub: HubServer, letters: Path, tmp_path: Path) -> None:
    pull(hub, tmp_path)
    hub.publish_folder("other/letters", letters)
    with pytest.raises(OptionError, match="there is another model 'letters' from 'acme/letters@"):
        pull(hub, tmp_path, "other/letters")
    assert pull(hub, tmp_path, "other/letters", name="mine").name == "mine"
    assert visible(tmp_path) == ["letters", "mine"]


@pytest.mark.fault(39)
def test_two_pulls_at_once_download_once(hub: HubServer, tmp_path: Path) -> None:
    """Guards two processes that write to one unfinished model."""
    hub.faults[DECODER_BIN] = Fault(seconds_per_piece=0.005)
    results = []
    began = threading.Event()

    def second() -> None:
        results.append(pull(hub, tmp_path, waiting=began.set))

    first = threading.Thread(target=lambda: results.append(pull(hub, tmp_path, waiting=began.set)))
    other = threading.Thread(target=second)
    first.start()
    other.start()
    first.join()
    other.join()
    assert began.is_set()
    assert sorted(one.is_new for one in results) == [False, True]
    assert hub.fetched().count(DECODER_BIN) == 1


def test_a_folder_of_optimum_is_used_as_it_is(hub: HubServer, tmp_path: Path) -> None:
    """Guards a model without a manifest that is taken for a checkpoint, and files that only openvino-genai reads."""
    settings = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")
    wanted = {name: (FOLDER / name).read_bytes() for name in (*settings, "chat_template.jinja")}
    wanted |= {name: f'<data element_type="i8"/> {name}'.encode() for name in OPTIMUM.files}
    hub.publish("acme/Made", wanted | UNWANTED | {"openvino_tokenizer.xml": b"t", "openvino_tokenizer.bin": b"t"})
    pulled = pull(hub, tmp_path, "acme/Made")
    assert {*hub.fetched()} == {*wanted} == {*content(pulled.folder)} - {SOURCE}
    facts = describe(pulled.folder)
    assert (facts.name, facts.layout, facts.precision) == ("made", "optimum", "int8")
    assert verify_model(pulled.folder, lambda _: None) == len(wanted)


def convert(checkpoint: Path, out: Path, weights: str) -> None:
    """Stand for the export."""
    write_model_folder(out)
    assert (checkpoint / "config.json").read_bytes() == CONFIG


def test_a_checkpoint_is_converted(hub: HubServer, tmp_path: Path) -> None:
    """Only what the export reads is fetched: no second format of the same weights."""
    hub.publish("acme/Big-Model", CHECKPOINT | UNWANTED)
    pulled = pull(hub, tmp_path, "acme/Big-Model", weights="int4", convert=convert)
    assert pulled.name == "big-model-int4"
    assert pulled.source.weights == "int4"
    assert {*hub.fetched()} == {*CHECKPOINT}
    assert {path for path in tree(tmp_path) if not path.startswith(".locks")} == {
        f"big-model-int4/{name}" for name in content(pulled.folder)
    }


def test_an_interrupted_conversion_begins_again_without_a_download(hub: HubServer, tmp_path: Path) -> None:
    def killed(checkpoint: Path, out: Path, weights: str) -> None:
        write_model_folder(out)
        raise KeyboardInterrupt

    hub.publish("acme/Big-Model", CHECKPOINT)
    with pytest.raises(KeyboardInterrupt):
        pull(hub, tmp_path, "acme/Big-Model", convert=killed)
    assert visible(tmp_path) == []
    hub.requests.clear()
    assert pull(hub, tmp_path, "acme/Big-Model", convert=convert).is_new
    assert hub.fetched() == []


def test_a_checkpoint_without_the_packages_is_refused_before_its_weights_are_fetched(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.publish("acme/Big-Model", CHECKPOINT)
    with pytest.raises(OptionError, match="is a PyTorch checkpoint that has to be converted: run pip"):
        pull(hub, tmp_path, "acme/Big-Model")
    assert not {*hub.fetched()} & {"model-1.safetensors", "model-2.safetensors"}


def test_the_weights_of_a_ready_model_cannot_be_chosen(hub: HubServer, tmp_path: Path) -> None:
    """Guards an option that is ignored."""
    with pytest.raises(OptionError, match="leave out --weights"):
        pull(hub, tmp_path, weights="int4")
    assert DECODER_BIN not in hub.fetched()


UNUSABLE: dict[str, tuple[dict[str, bytes], str]] = {
    "gguf": ({"model-Q4.gguf": b"g"}, "holds only GGUF"),
    "onnx": ({"config.json": CONFIG, "model.onnx": b"o"}, "holds only ONNX"),
    "pickle": ({"config.json": CONFIG, "pytorch_model.bin": b"p"}, "holds only pickled"),
    "empty": ({"README.md": b"#"}, "holds no model that vlrun knows"),
    "another family": (CHECKPOINT | {"config.json": b'{"model_type": "llama"}'}, "of type 'llama'"),
    "quantized": (
        CHECKPOINT | {"config.json": CONFIG.replace(b"{", b'{"quantization_config": {"quant_method": "awq"},', 1)},
        "already quantized",
    ),
    "no JSON": (CHECKPOINT | {"config.json": b"["}, "is not valid JSON"),
    "a shard is missing": ({k: v for k, v in CHECKPOINT.items() if k != "model-2.safetensors"}, "lacks 'model-2"),
    "weights outside": (
        CHECKPOINT | {"model.safetensors.index.json": b'{"weight_map": {"a": "../../etc/passwd"}}'},
        "lacks '../../etc/passwd'",
    ),
    "no graph weights": (
        {"config.json": CONFIG, "openvino_language_model.xml": b"x"},
        r"lacks 'openvino_language_model\.bin'",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_vlrun_cannot_run_is_refused_before_its_weights_are_fetched(
    case: str, hub: HubServer, tmp_path: Path
) -> None:
    files, reason = UNUSABLE[case]
    hub.publish("acme/thing", files)
    with pytest.raises((HubRefused, ModelError), match=reason):
        pull(hub, tmp_path, "acme/thing", convert=convert)
    assert not {name for name in hub.fetched() if name.endswith((".safetensors", ".bin", ".gguf", ".onnx"))}
    assert visible(tmp_path) == []


def test_a_manifest_that_disagrees_with_the_hub_is_refused_at_once(hub: HubServer, tmp_path: Path) -> None:
    """Guards two gigabytes that turn out to be of another model at the end."""
    files = hub.repositories[REPOSITORY].files
    manifest = json.loads(files[MANIFEST])
    manifest["files"][DECODER_BIN]["size"] += 1
    files[MANIFEST] = json.dumps(manifest).encode()
    with pytest.raises(HubRefused, match=r"has another decoder\.bin than its manifest\.json says"):
        pull(hub, tmp_path)
    assert DECODER_BIN not in hub.fetched()


def test_a_model_of_a_later_format_is_refused_at_once(hub: HubServer, tmp_path: Path) -> None:
    files = hub.repositories[REPOSITORY].files
    files[MANIFEST] = files[MANIFEST].replace(b'"format": 1', b'"format": 9')
    with pytest.raises(ForeignModel, match="format 9"):
        pull(hub, tmp_path)
    assert hub.fetched() == [MANIFEST]
