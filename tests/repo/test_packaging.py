"""The packages, data files and requirements in setup.cfg match the source tree."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlrun
from tests.paths import ROOT, RUNTIME
from tests.repo.tree import PACKAGES, tracked_files

WORKBENCH_ONLY = {"torch", "torchvision", "transformers", "optimum", "optimum-intel", "nncf", "onnx", "safetensors"}

CLONE_ONLY = (ROOT / "benchmarks", ROOT / "training")
"""Packages that the wheel leaves out."""


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _lines(value: str) -> list[str]:
    return [line for line in value.splitlines() if line]


def _names(requirements: list[str]) -> set[str]:
    return {_name(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def _name(distribution: str) -> str:
    """Normalize a name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _package(file: Path, name: str) -> str:
    return ".".join((name, *file.parent.relative_to(PACKAGES[name]).parts))


def _package_files() -> Iterator[tuple[str, Path]]:
    for path in tracked_files():
        for name, folder in PACKAGES.items():
            if path.is_relative_to(folder):
                yield name, path


def test_setup_cfg_lists_exactly_the_packages_that_exist(setup: configparser.ConfigParser) -> None:
    found = {_package(path, name) for name, path in _package_files() if path.suffix == ".py"}
    listed = _lines(setup["options"]["packages"])
    assert listed == sorted(found)


def test_every_package_has_an_init() -> None:
    folders = {path.parent for _, path in _package_files() if path.suffix == ".py"}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_other_file_is_package_data(setup: configparser.ConfigParser) -> None:
    listed = {package: _lines(patterns) for package, patterns in setup["options.package_data"].items()}
    others = [(name, path) for name, path in _package_files() if path.suffix != ".py"]
    missed = [path for name, path in others if not _is_listed(path, name, listed)]
    assert not missed


def _is_listed(path: Path, name: str, listed: dict[str, list[str]]) -> bool:
    """Whether a file matches a data pattern of its package or of a parent package."""
    for folder in path.parents:
        if not folder.is_relative_to(PACKAGES[name]):
            return False
        package = ".".join((name, *folder.relative_to(PACKAGES[name]).parts))
        inside = path.relative_to(folder)
        if any(
            inside.match(pattern) and len(inside.parts) == len(Path(pattern).parts)
            for pattern in listed.get(package, [])
        ):
            return True
    return False


def test_runtime_requirements_equal_the_runtimes_imports(setup: configparser.ConfigParser) -> None:
    required = _names(_lines(setup["options"]["install_requires"]))
    extras = setup["options.extras_require"]
    of_runtime = ("heic", "hub", "onnx", "pdf", "serve", "video")
    optional = {name for extra in of_runtime for name in _names(_lines(extras[extra]))}
    assert not (required | optional) & WORKBENCH_ONLY
    assert required | optional == _imported_distributions(PACKAGES["vlrun"])


def test_only_the_hub_client_imports_its_library() -> None:
    """``vlrun ask`` and ``vlrun models`` work without the extra `hub`, and start without loading it."""
    importers = {
        path.name for name, path in _package_files() if path.suffix == ".py" and "huggingface_hub" in _imports(path)
    }
    assert importers == {"client.py"}


def test_packages_of_formats_are_imported_only_for_such_a_file(setup: configparser.ConfigParser) -> None:
    """They are not there without their extras."""
    for extra, module in (("heic", "pi_heif"), ("pdf", "pypdfium2"), ("video", "av")):
        assert _names(_lines(setup["options.extras_require"][extra])) == {module.replace("_", "-")}
        code = f"import sys, vlrun.media.pending_image; sys.exit({module!r} in sys.modules)"
        environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
        assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_only_the_service_imports_packages_of_its_extra(setup: configparser.ConfigParser) -> None:
    """Guards `vlrun ask` on a machine without the web server's packages."""
    server_extra = _names(_lines(setup["options.extras_require"]["serve"]))
    service = PACKAGES["vlrun"] / "server"
    others = {
        module
        for name, path in _package_files()
        if name == "vlrun" and path.suffix == ".py" and not path.is_relative_to(service)
        for module in _imports(path)
    }
    distributions = importlib.metadata.packages_distributions()
    assert (
        not {_name(distribution) for module in others for distribution in distributions.get(module, ())} & server_extra
    )


def test_workbench_requirements_cover_its_imports(setup: configparser.ConfigParser) -> None:
    """The environment of `scripts/export` has the requirements of the export alone."""
    pytest.importorskip("torch", reason="needs the workbench packages")
    extras = setup["options.extras_require"]
    required = (
        _names(_lines(setup["options"]["install_requires"]))
        | _names(_lines(extras["export"]))
        | _names(_lines(extras["onnx"]))
    )
    assert not _imported_distributions(PACKAGES["vlrun_export"]) - required
    required |= _names(_lines(extras["train"])) | _names(_lines(extras["peers"]))
    assert not _imported_distributions(*CLONE_ONLY) - required
    assert "torchvision" not in required


def test_the_wheel_contains_only_the_two_packages(setup: configparser.ConfigParser) -> None:
    packages = {package.partition(".")[0] for package in _lines(setup["options"]["packages"])}
    assert packages == set(PACKAGES)


def _imported_distributions(*folders: Path) -> set[str]:
    """Return the distributions that folders import. If several provide a module, take the one in setup.cfg."""
    sources = [path for path in tracked_files() if path.suffix == ".py" and any(map(path.is_relative_to, folders))]
    modules = {module for path in sources for module in _imports(path)}
    distributions = importlib.metadata.packages_distributions()
    third_party = modules - sys.stdlib_module_names - set(PACKAGES) - {folder.name for folder in CLONE_ONLY}
    return {_name(max(distributions[module], key=len)) for module in third_party}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module.partition(".")[0]


def test_the_version_is_the_same_everywhere(setup: configparser.ConfigParser) -> None:
    version = setup["metadata"]["version"]
    assert vlrun.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_license_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
