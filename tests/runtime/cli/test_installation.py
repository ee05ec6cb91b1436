"""The commands that vlrun tells people to type exist where it was installed."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from vlrun.cli import installation
from vlrun.cli.installation import install_command, missing_packages, program


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that vlrun is installed in an environment in this folder, and not from a clone."""
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip", "vlrun"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(installation, "CLONE", tmp_path / "lib")
    monkeypatch.setattr(installation, "SCRIPT", tmp_path / "lib" / "scripts" / "vlrun")
    monkeypatch.setattr(metadata, "distribution", lambda name: None)
    monkeypatch.setitem(
        sys.modules, "distutils", ModuleType("distutils")
    )  # setuptools warned of it when pip was looked for
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_clone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = place / "clone" / "scripts" / "vlrun"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(installation, "CLONE", place / "clone")
    monkeypatch.setattr(installation, "SCRIPT", script)


def test_in_an_active_environment_names_are_enough(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{place / 'env' / 'bin'}:/usr/bin")
    assert program() == "vlrun"
    assert missing_packages("serve") == "'vlrun serve' needs more packages: run pip install 'vlrun[serve]'"


def test_in_another_environment_paths_are_given(place: Path) -> None:
    """Guards a pip that installs into another environment than the one that lacks the packages."""
    assert program() == "./env/bin/vlrun"
    assert install_command("serve") == f"{place}/env/bin/python -m pip install 'vlrun[serve]'"


def test_another_program_of_the_same_name_is_not_meant(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "other").mkdir()
    for name in ("pip", "vlrun"):
        (place / "other" / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(place / "other"))
    assert program() == "./env/bin/vlrun"
    assert install_command() == f"{place}/env/bin/python -m pip install vlrun"


def test_without_pip_in_the_environment_another_pip_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PathFinder, "find_spec", lambda name: None)
    assert install_command("serve") == f"pip --python {place}/env/bin/python install 'vlrun[serve]'"


def test_the_export_asks_for_torch_without_cuda(place: Path) -> None:
    """Guards a command that fetches several GB that no one uses."""
    assert install_command("export").endswith("'vlrun[export]' --extra-index-url https://download.pytorch.org/whl/cpu")


def test_environments_of_the_scripts_are_left_to_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clone(place, monkeypatch)
    (place / "env" / "made-for").touch()
    assert program() == "./clone/scripts/vlrun"
    assert missing_packages("export") == "'vlrun export' needs more packages: run ./clone/scripts/vlrun export"
    monkeypatch.chdir(place / "env")
    assert program() == f"{place}/clone/scripts/vlrun"


def test_an_editable_installation_in_another_environment_uses_its_pip(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clone(place, monkeypatch)
    assert install_command("serve").endswith("pip install 'vlrun[serve]'")


def test_without_an_installation_the_clone_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    make_clone(place, monkeypatch)
    monkeypatch.setattr(metadata, "distribution", missing)
    assert install_command("serve") == "./clone/scripts/vlrun serve"
    assert install_command() == f"{place}/env/bin/python -m pip install {place}/clone"


def test_a_working_directory_that_is_gone_is_no_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    assert program() == f"{place}/env/bin/vlrun"
