"""The default model: option, variable, configuration file, embedded model, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import EXAMPLES
from tests.runtime.cli.command_line import vlrun
from vlrun.cli.model_choice import EMBEDDED, OPTION, VARIABLE, choose_given_model, choose_model, config_file
from vlrun.embedded import FOLDER
from vlrun.errors import ModelNotFound, OptionError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the configuration file, which does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "vlrun" / "config.toml"
    path.parent.mkdir()
    assert config_file() == path
    return path


def test_each_source_overrides_those_below_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (choose_model(None).folder, choose_model(None).source) == (None, EMBEDDED)
    assert choose_model(None).path == FOLDER
    config.write_text('model = "/from/file"\n')
    assert (choose_model(None).folder, choose_model(None).source) == (Path("/from/file"), str(config))
    monkeypatch.setenv(VARIABLE, "from/variable")
    assert (choose_model(None).folder, choose_model(None).source) == (Path("from/variable"), VARIABLE)
    choice = choose_model(Path("from/option"))
    assert (choice.folder, choice.source, choice.name) == (Path("from/option"), OPTION, "option")


def test_an_empty_variable_chooses_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``VLRUN_MODEL= vlrun ...`` is how a shell unsets a variable for one command."""
    monkeypatch.setenv(VARIABLE, "")
    assert choose_model(None).folder is None
    config.write_text('model = "/from/file"')
    assert choose_model(None).folder == Path("/from/file")


def test_the_home_directory_is_expanded(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(config.parent))
    config.write_text('\ufeff# my model\nmodel = "~/models/模型"\n')
    assert choose_model(None).folder == config.parent / "models" / "模型"


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_a_file_without_a_model_chooses_nothing(config: Path, content: str) -> None:
    config.write_text(content)
    assert choose_model(None).folder is None


WRONG = {
    'modle = "/x"': "has the unknown key 'modle'",
    'model = "/x"\n[serve]\nport = 1': "has the unknown key 'serve'",
    "model = /x": "is not valid TOML",
    "model = 5": "must be the path of a model folder, or a name",
    'model = ""': "must be the path",
    'model = "\\u0000"': "must be the path",
    'model = ["/x"]': "must be the path",
    'model = "models/x"': "must begin with / or ~/",
    "a = " + "[" * 5000: "is not valid TOML",
    "x" * 70_000: "the limit is 65,536",
    "\udcff": "is not UTF-8 text",
}


@pytest.mark.parametrize("content", WRONG, ids=lambda content: repr(content)[:30])
def test_a_wrong_file_gets_one_sentence_that_names_it(config: Path, content: str) -> None:
    config.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(OptionError) as raised:
        choose_model(None)
    assert WRONG[content] in str(raised.value)
    assert str(config) in str(raised.value)


def test_a_folder_in_place_of_the_file_is_an_error(config: Path) -> None:
    config.mkdir()
    with pytest.raises(OptionError, match="not a regular file"):
        choose_model(None)


def test_the_file_is_not_read_if_something_else_names_a_model(config: Path) -> None:
    """A service whose unit names its model must not fail because of the file of a user."""
    config.write_text("wrong")
    assert choose_model(Path("x")).source == OPTION


def test_without_a_home_directory_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: str) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr("platformdirs.user_config_path", none)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert choose_model(None).folder is None


def test_errors_name_the_source_unless_it_is_the_option(config: Path) -> None:
    config.write_text('model = "/no/such"')
    with pytest.raises(ModelNotFound) as raised, choose_model(None).named_in_errors():
        raise ModelNotFound("no model folder at '/no/such'")
    assert str(raised.value) == f"{config} chooses a model that cannot be used: no model folder at '/no/such'"
    with pytest.raises(ModelNotFound, match=r"^no model folder$"), choose_model(Path("x")).named_in_errors():
        raise ModelNotFound("no model folder")


def test_some_commands_need_a_model(config: Path) -> None:
    """``vlrun bench`` and ``vlrun tune`` of the embedded model would tell nothing about the user's."""
    with pytest.raises(OptionError, match="give --model NAME, or set VLRUN_MODEL"):
        choose_given_model(None)
    config.write_text('model = "/x"')
    assert choose_given_model(None).folder == Path("/x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("ask", str(EXAMPLES / "shelf.png")), ("plan", str(EXAMPLES / "shelf.png")), ("verify",), ("tune",), ("bench",)],
    ids=lambda command: command[0],
)
def test_every_command_uses_the_variable(command: tuple[str, ...], tmp_path: Path) -> None:
    done = vlrun(*command, home=tmp_path, VLRUN_MODEL="/no/such")
    assert done.returncode == 4
    assert b"vlrun: VLRUN_MODEL chooses a model that cannot be used: no model folder at '/no/such'" in done.stderr


@pytest.mark.slow
def test_the_configured_model_answers(tmp_path: Path) -> None:
    config = tmp_path / "vlrun" / "config.toml"
    config.parent.mkdir()
    config.write_text(f'model = "{FOLDER}"')
    done = vlrun("verify", home=tmp_path, XDG_CONFIG_HOME=str(tmp_path), VLRUN_MODEL="")
    assert (done.returncode, done.stderr) == (0, b"")
