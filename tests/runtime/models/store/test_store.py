"""The store: names, removal, locks, and what ``--model`` and ``vlrun.load`` make of a text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vlrun
from tests.runtime.model_folders import write_model_folder
from vlrun.errors import ModelInUse, ModelNotFound, OptionError, OutputError
from vlrun.models.hub.reference import aliases
from vlrun.models.model_folder import ModelFolder
from vlrun.models.store.location import VARIABLE, store_folder
from vlrun.models.store.names import MAX_NAME, check_name, is_name, name_for
from vlrun.models.store.source import SOURCE
from vlrun.models.store.store import ModelStore, resolve
from vlrun.models.store.transfer import add_model


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """A store with the model ``Letters``; it is that of ``VLRUN_MODELS``."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    store = ModelStore.open()
    add_model(store, write_model_folder(tmp_path / "elsewhere"), "Letters", lambda _: None)
    return store


def test_the_place_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, then the variable, then the user's data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert store_folder() == tmp_path / "vlrun" / "models"
    monkeypatch.setenv(VARIABLE, "/srv/models")
    assert store_folder() == Path("/srv/models")
    assert store_folder(Path("/given")) == Path("/given")


def test_a_store_that_everyone_may_write_to_is_not_used(store: ModelStore) -> None:
    """Guards a model of another user under a name that the user trusts."""
    store.folder.chmod(0o777)
    with pytest.raises(ModelNotFound, match="until 'chmod o-w'"):
        ModelStore.open()
    with pytest.raises(ModelNotFound, match="until 'chmod o-w'"):
        resolve("letters")


@pytest.mark.parametrize("name", ["a", "Qwen3-VL-2B", "a.b_c-d", "8b", "x" * MAX_NAME])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "a\\b", "a b", "a.", "模型", "CON", "a\n", "a\0", "x" * (MAX_NAME + 1)]
)
def test_what_is_no_name(name: str) -> None:
    """A name is a folder on every file system, and never an option, a path or a hidden folder."""
    assert not is_name(name)
    with pytest.raises(OptionError, match="cannot be the name of a model"):
        check_name(name)


@pytest.mark.parametrize("text", ["a/B C", "/x/..", "a/...", "模型", "/", "a/-x-", "a/" + "x" * 300])
def test_a_default_name_is_always_a_name(text: str) -> None:
    assert is_name(name_for(text))


def test_resolving(store: ModelStore, tmp_path: Path) -> None:
    letters = store.folder / "Letters"
    assert resolve("letters") == letters  # in any case
    (tmp_path / "letters").mkdir()
    (tmp_path / "other").mkdir()
    assert resolve("letters") == letters  # a name does not depend on the working directory
    assert resolve("./letters") == Path("letters")
    assert resolve("letters/") == Path("letters")
    assert resolve("other") == Path("other")
    assert resolve("../x") == Path("../x")


def test_an_unknown_name_gets_a_suggestion(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound) as raised:
        resolve("leters")
    assert str(raised.value) == (
        "there is no model and no folder 'leters': did you mean 'Letters'? "
        "'vlrun models' lists the models, 'vlrun pull' downloads one"
    )


def test_a_short_name_that_was_not_pulled_says_how(store: ModelStore) -> None:
    """The commands of the documentation, typed before the first pull."""
    alias = next(iter(aliases()))
    with pytest.raises(ModelNotFound, match=f"'vlrun pull {alias}' downloads it"):
        resolve(alias)


def test_without_a_store_paths_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a machine without a home directory."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "a-file"))
    (tmp_path / "a-file").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("here") == Path("here")
    with pytest.raises(ModelNotFound, match="cannot read the model store"):
        resolve("there")


def test_python_takes_names(store: ModelStore) -> None:
    """A ``Path`` is never taken for a name."""
    with pytest.raises(ModelNotFound, match="did you mean 'Letters'"):
        vlrun.load("leters")
    with pytest.raises(ModelNotFound, match="no model folder at 'letters'"):
        vlrun.load(Path("letters"))


def test_removal(store: ModelStore) -> None:
    assert store.remove("letters") == "Letters"
    assert store.names() == []
    assert [path.name for path in store.folder.iterdir() if path.name != ".locks"] == [".partial"]
    with pytest.raises(ModelNotFound, match="there is no model 'letters'"):
        store.remove("letters")


def test_a_loaded_model_is_removed_only_by_force(store: ModelStore) -> None:
    """The process that has loaded it goes on with it."""
    opened = ModelFolder(store.get("letters"))
    with pytest.raises(ModelInUse, match="is loaded by a running vlrun"):
        store.remove("letters")
    store.remove("letters", force=True)
    assert opened.read("tokenizer.json").startswith(b"tokenizer.json")
    opened.check_unchanged()


def test_a_model_that_was_closed_is_removed(store: ModelStore) -> None:
    opened = ModelFolder(store.get("letters"))
    del opened
    assert store.remove("letters") == "Letters"


def test_a_name_that_another_process_changes_is_left_alone(store: ModelStore) -> None:
    with store.locked("letters"), pytest.raises(ModelInUse, match="another vlrun is changing"):
        store.remove("letters")
    assert store.names() == ["Letters"]


def test_unfinished_models_are_listed_and_removed(store: ModelStore) -> None:
    partial = store.partial("Big")
    (partial / "weights").write_bytes(b"123")
    assert [(one.name, one.nbytes) for one in store.unfinished()] == [("big", 3)]
    assert store.names() == ["Letters"]
    store.remove("big")
    assert store.unfinished() == []


def test_what_is_no_model_folder_is_not_listed(store: ModelStore) -> None:
    (store.folder / "a file").touch()
    (store.folder / "file").touch()
    (store.folder / ".hidden").mkdir()
    assert store.names() == ["Letters"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written(store: ModelStore) -> None:
    store.folder.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write to the model store"):
        store.partial("new")
    store.folder.chmod(0o700)


def test_the_source_lies_in_the_folder(store: ModelStore) -> None:
    """It goes with the model to other machines."""
    assert (store.get("letters") / SOURCE).is_file()
