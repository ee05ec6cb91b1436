"""Models that are added and copied: whole, checked, and nothing of other files of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.runtime.model_folders import write_model_folder
from tests.runtime.models.conftest import SmallDisk
from vlrun.errors import DamagedModel, ForeignModel, ModelError, ModelNotFound, OptionError, OutputError
from vlrun.manifest import DECODER_BIN, MANIFEST, TOKENIZER
from vlrun.models.store.source import SOURCE, read_source
from vlrun.models.store.store import ModelStore
from vlrun.models.store.transfer import add_model, copy_model, verify_model


def ignore(_: int) -> None:
    """Report nothing."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "letters")


def nothing_is_left(store: ModelStore) -> bool:
    return store.names() == [] and store.unfinished() == []


def test_a_model_goes_to_a_stick_and_into_another_store(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    added = add_model(store, folder, None, counted.append)
    assert added == store.folder / "letters"
    assert sum(counted) == sum(path.stat().st_size for path in folder.iterdir())
    stick = tmp_path / "stick"
    stick.mkdir()
    copied = copy_model(added, stick, ignore)
    assert {path.name for path in stick.iterdir()} == {"letters"}
    other = add_model(ModelStore(tmp_path / "other"), copied, "mine", ignore)
    assert (other / DECODER_BIN).read_bytes() == (folder / DECODER_BIN).read_bytes()
    assert read_source(other) == read_source(added)
    assert verify_model(other, ignore) == 7


def test_a_file_without_a_place_in_the_manifest_stays_behind(store: ModelStore, folder: Path) -> None:
    (folder / "notes.txt").write_text("private")
    assert not (add_model(store, folder, None, ignore) / "notes.txt").exists()


@pytest.mark.parametrize("name", [DECODER_BIN, MANIFEST])
def test_a_damaged_folder_is_not_added(name: str, store: ModelStore, folder: Path, tmp_path: Path) -> None:
    """The copy on a stick has the checksums of all files, also that of the manifest."""
    first = add_model(ModelStore(tmp_path / "first"), folder, None, ignore)
    content = bytearray((first / name).read_bytes())
    content[-2] ^= 1
    (first / name).write_bytes(content)
    with pytest.raises(DamagedModel):
        add_model(store, first, None, ignore)
    assert nothing_is_left(store)


def test_a_copy_of_a_damaged_model_is_not_made(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    added = add_model(store, folder, None, ignore)
    (added / TOKENIZER).write_bytes((added / TOKENIZER).read_bytes().swapcase())
    with pytest.raises(DamagedModel, match=r"tokenizer\.json in .* is not the file"):
        verify_model(added, ignore)
    target = tmp_path / "stick"
    target.mkdir()
    with pytest.raises(DamagedModel, match=r"tokenizer\.json in .* is not the file"):
        copy_model(added, target, ignore)
    assert list(target.iterdir()) == []


def test_what_vlrun_cannot_load_is_not_added(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    """The reason says what to do."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ForeignModel, match="holds no model that vlrun knows"):
        add_model(store, tmp_path / "empty", None, ignore)
    (tmp_path / "empty" / "config.json").write_text("{}")
    (tmp_path / "empty" / "model.safetensors").write_text("")
    with pytest.raises(ForeignModel, match="is a PyTorch checkpoint: 'vlrun export' makes a model folder from it"):
        add_model(store, tmp_path / "empty", None, ignore)
    with pytest.raises(ModelNotFound, match="No such file"):
        add_model(store, tmp_path / "nowhere", None, ignore)
    (folder / DECODER_BIN).unlink()
    with pytest.raises(DamagedModel, match=r"lacks decoder\.bin"):
        add_model(store, folder, None, ignore)
    assert nothing_is_left(store)


def test_a_name_that_is_taken(store: ModelStore, folder: Path) -> None:
    add_model(store, folder, "Mine", ignore)
    with pytest.raises(OptionError, match="there is a model 'Mine' already"):
        add_model(store, folder, "mine", ignore)


@pytest.mark.fault(46)
def test_links_that_leave_the_folder_are_refused(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    """Guards a folder from elsewhere that would take a file of this machine along."""
    secret = tmp_path / "secret"
    (folder / TOKENIZER).rename(secret)
    (folder / TOKENIZER).symlink_to(secret)
    with pytest.raises(DamagedModel, match="is a link that leaves the folder"):
        add_model(store, folder, None, ignore)
    assert nothing_is_left(store)


def test_the_hubs_own_cache_is_taken(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    """Its snapshots are links to files beside them."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    added = add_model(store, snapshot, "letters", ignore)
    assert not any(path.is_symlink() for path in added.iterdir())


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/b", SOURCE])
def test_a_source_file_that_names_other_files_is_refused(name: str, store: ModelStore, folder: Path) -> None:
    """A stick is not trusted."""
    entry = {"size": 1, "sha256": "0" * 64}
    (folder / SOURCE).write_text(json.dumps({"origin": "x", "files": {name: entry}}))
    with pytest.raises(DamagedModel, match="names a file outside of the folder"):
        add_model(store, folder, None, ignore)
    assert nothing_is_left(store)


@pytest.mark.parametrize("content", ["", "[]", '{"origin": 5}', "\0", '{"origin": "x", "files": {"a": {}}}'])
def test_a_damaged_source_file(content: str, store: ModelStore, folder: Path) -> None:
    (folder / SOURCE).write_text(content)
    with pytest.raises(ModelError, match=r"vlrun-source\.json of .* is damaged"):
        add_model(store, folder, None, ignore)


def test_a_target_that_cannot_be_used(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    added = add_model(store, folder, None, ignore)
    with pytest.raises(OutputError, match="there is no folder"):
        copy_model(added, tmp_path / "nowhere", ignore)
    with pytest.raises(OutputError, match="exists already"):
        copy_model(added, tmp_path, ignore)  # the folder that was added lies there


@pytest.mark.fault(38)
def test_a_disk_that_is_really_full(store: ModelStore, tmp_path: Path, small_disk: SmallDisk) -> None:
    """Guards a failed copy that goes on to fill the disk."""
    folder, full = write_model_folder(tmp_path / "large", 3 << 19), ModelStore(small_disk.folder)
    with pytest.raises(OutputError, match="No space left on device"):
        add_model(full, folder, None, ignore)
    assert nothing_is_left(full)
    with pytest.raises(OutputError, match="No space left on device"):
        copy_model(add_model(store, folder, None, ignore), small_disk.folder, ignore)
    assert not [path for path in small_disk.folder.rglob("*") if path.is_file() and path.stat().st_size]
    small_disk.enlarge()
    assert add_model(full, folder, None, ignore).is_dir()


def test_a_full_stick(store: ModelStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = add_model(store, folder, None, ignore)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    stick = tmp_path / "stick"
    stick.mkdir()
    with pytest.raises(OutputError, match="not enough space"):
        copy_model(added, stick, ignore)
    assert list(stick.iterdir()) == []


def test_ctrl_c_leaves_nothing(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_model(store, folder, None, interrupt)
    assert nothing_is_left(store)
