"""``vlrun models``: what it prints, the default model, and names in other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.runtime.cli.command_line import vlrun
from tests.runtime.model_folders import write_model_folder
from vlrun.cli.commands import commands
from vlrun.cli.model_choice import choose_model, config_file
from vlrun.cli.parameter_types import MODEL
from vlrun.embedded import FOLDER
from vlrun.errors import ModelInUse, ModelNotFound, OptionError
from vlrun.models.model_folder import ModelFolder
from vlrun.models.store.location import VARIABLE


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, beside the folder ``letters``."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_model_folder(tmp_path / "letters")
    return tmp_path / "store"


def run(*words: str) -> Result:
    """Run ``vlrun models``. Errors of vlrun are raised."""
    result = CliRunner().invoke(commands, ["models", *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


def test_an_empty_store_says_what_to_do(store: Path) -> None:
    result = run()
    assert result.stdout == ""
    assert f"no models in '{store}': 'vlrun pull qwen3-vl-2b' downloads one" in result.stderr
    assert json.loads(run("--json").stdout) == []


def test_the_first_model_becomes_the_default(store: Path) -> None:
    """``vlrun pull`` and ``vlrun ask`` are enough."""
    result = run("add", "letters")
    assert result.stdout == "added letters\n"
    assert "'letters' is the default model from now on" in result.stderr
    assert choose_model().path == store / "letters"
    assert run("add", "letters", "--name", "more").stderr == ""
    assert run("default").stdout == "letters\n"


def test_the_list(store: Path) -> None:
    run("add", "letters")
    run("add", "letters", "--name", "another-long-name")
    assert run().stdout.splitlines() == [
        "name               family    format    precision  size    backend   tuned",
        "another-long-name  qwen3-vl  openvino  int8       0.0 MB  openvino  -",
        "letters *          qwen3-vl  openvino  int8       0.0 MB  openvino  -",
    ]
    listed = json.loads(run("--json").stdout)
    assert [one["name"] for one in listed] == ["another-long-name", "letters"]
    assert listed[1] == {
        "name": "letters",
        "family": "qwen3-vl",
        "format": "openvino",
        "layout": "vlrun",
        "precision": "int8",
        "size": listed[0]["size"],
        "backend": "openvino",
        "tuned": None,
        "default": True,
    }


@pytest.mark.slow
def test_the_tuned_speed_is_listed(store: Path) -> None:
    """Of the model with this result, and of no other."""
    from vlrun.backends.openvino.tuned import Tuned, save_tuned  # imports OpenVINO

    run("add", "letters")
    run("add", str(FOLDER), "--name", "shelves")
    save_tuned(Tuned("f32", "f32", 0, 2, 1.5, 2.0), ModelFolder(store / "letters").fingerprint, "CPU")
    assert [line.split()[-2:] for line in run().stdout.splitlines()[1:]] == [["1.50", "s"], ["openvino", "-"]]
    assert [one["tuned"] for one in json.loads(run("--json").stdout)] == [1.5, None]


def test_a_damaged_model_does_not_hide_the_others(store: Path) -> None:
    run("add", "letters")
    run("add", "letters", "--name", "broken")
    (store / "broken" / "manifest.json").write_text("{")
    (store / ".partial" / "half").mkdir()
    result = run()
    assert "letters *" in result.stdout
    assert "broken" not in result.stdout
    assert "broken' is damaged" in result.stderr
    assert "'half' is not complete (0 bytes so far): pull it again, or remove it" in result.stderr
    assert [one.get("error") is None for one in json.loads(run("--json").stdout)] == [False, True]


def test_show(store: Path) -> None:
    run("add", "letters")
    shown = json.loads(run("show", "letters", "--json").stdout)
    assert shown["folder"] == str(store / "letters")
    assert shown["files"]["decoder.bin"]["size"] == 110
    assert f"folder       {store / 'letters'}" in run("show", "letters").stdout


def test_verify(store: Path) -> None:
    run("add", "letters")
    run("add", "letters", "--name", "other")
    assert run("verify").stdout == "letters: 7 files, all as pulled or added\nother: 7 files, all as pulled or added\n"
    (store / "letters" / "decoder.bin").write_text("x" * 110)
    result = CliRunner().invoke(commands, ["models", "verify"], standalone_mode=False)
    assert "other: 7 files" in result.stdout
    assert "decoder.bin in" in result.stderr
    assert str(result.exception) == "not all models are intact"


def test_the_default_model(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config_file()
    assert path is not None
    run("add", "letters")
    run("add", "letters", "--name", "other")
    path.write_text("# mine\nmodel = 'letters'  # the first\n# end\n")
    run("default", "OTHER")
    assert path.read_text() == '# mine\nmodel = "other"\n# end\n'  # comments stay
    assert choose_model().path == store / "other"
    run("default", "--unset")
    assert path.read_text() == "# mine\n# end\n"
    assert run("default").stdout == "none: commands without --model use the demo model\n"
    with pytest.raises(ModelNotFound, match="did you mean 'other'"):
        run("default", "othr")
    with pytest.raises(OptionError, match="either NAME or --unset"):
        run("default", "other", "--unset")
    monkeypatch.setenv("VLRUN_MODEL", "letters")
    assert "VLRUN_MODEL is set and has priority" in run("default", "other").stderr


def test_a_configuration_that_cannot_be_read_is_not_written(store: Path) -> None:
    run("add", "letters")
    path = config_file()
    assert path is not None
    path.write_text("model = [")
    with pytest.raises(OptionError, match="is not valid TOML"):
        run("default", "letters")
    assert path.read_text() == "model = ["


def test_removing_the_default_model(store: Path) -> None:
    """Guards a default that no command finds any more."""
    run("add", "letters")
    result = run("rm", "letters")
    assert result.stdout == "removed letters\n"
    assert "'letters' was the default model; now there is none" in result.stderr
    assert choose_model().folder is None


def test_removing_a_model_in_use(store: Path) -> None:
    run("add", "letters")
    opened = ModelFolder(store / "letters")
    with pytest.raises(ModelInUse, match="--force"):
        run("rm", "letters")
    run("rm", "letters", "--force")
    opened.check_unchanged()


def test_copying_the_default_model_to_a_stick(store: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no default model"):
        run("copy", ".")
    run("add", "letters")
    stick = tmp_path / "stick"
    stick.mkdir()
    assert run("copy", str(stick)).stdout == f"copied {stick / 'letters'}\n"
    run("--store", str(tmp_path / "box"), "add", str(stick / "letters"))
    assert run("--store", str(tmp_path / "box"), "verify").stdout == "letters: 7 files, all as pulled or added\n"


def test_a_store_given_by_option_does_not_change_the_default(store: Path, tmp_path: Path) -> None:
    """A name of another store would not be found by ``vlrun ask``."""
    run("--store", "box", "add", "letters")
    assert choose_model().folder is None
    run("--store", "box", "default", "letters")
    assert choose_model().path == tmp_path / "box" / "letters"


def test_names_wherever_a_model_is_given(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "letters", "--name", "mine")
    assert choose_model("mine").path == store / "mine"
    monkeypatch.setenv("VLRUN_MODEL", "mine")
    assert choose_model().path == store / "mine"
    monkeypatch.setenv("VLRUN_MODEL", "mien")
    with pytest.raises(ModelNotFound, match=r"^VLRUN_MODEL chooses a model that cannot be used: .*did you mean 'mine'"):
        choose_model()


def test_a_shell_completes_names(store: Path) -> None:
    run("add", "letters")
    completed = MODEL.shell_complete(None, None, "le")  # type: ignore[arg-type]
    assert [(item.value, item.type) for item in completed] == [("le", "dir"), ("letters", "plain")]


@pytest.mark.slow
def test_errors_have_the_exit_codes_of_the_reference(store: Path, tmp_path: Path) -> None:
    done = vlrun("verify", "leters", home=tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (4, 1)
    assert done.stderr.startswith(b"vlrun: there is no model and no folder 'leters'")
