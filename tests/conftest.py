"""The fast tier (``--fast``), and small models with random weights in the real architecture."""

from __future__ import annotations

import gc
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import onnx_backend
from tests.exports import export, made_once, shared_folder
from vlrun.layout import ONNX, VLRUN

SLOW_IMPORTS = frozenset(
    "anthropic easy_vqa nncf onnx optimum tests.runtime.server.running_server torch torchvision transformers".split()
)
"""Modules that the fast tier never imports: those that its environment lacks, and the helper that starts a service."""

SMALL = {"tied": (True, (1, 3), 11), "untied": (False, (0, 2, 4), 12)}
"""Name -> tied embeddings, DeepStack levels, seed."""


class SkipSlowImports(MetaPathFinder):
    """Skip a test module, or a test, that imports one of ``SLOW_IMPORTS`` directly or through a fixture."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in SLOW_IMPORTS:
            pytest.skip(f"the fast tier does not import {fullname}", allow_module_level=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="leave out tests that are slow, import torch or start a service"
    )
    parser.addoption("--clients", action="store_true", help="collect the tests of real clients, in tests/clients")


def pytest_configure(config: pytest.Config) -> None:
    os.umask(0o022)  # with 0, vlrun would not trust the cache folders that tests make
    os.environ.pop("VLRUN_MODEL", None)  # the default model of whoever runs the tests,
    os.environ["XDG_CONFIG_HOME"] = "/no-configuration"  # wherever it is set,
    os.environ["VLRUN_MODELS"] = "/no-models"  # and the models
    if onnx_backend.used():
        onnx_backend.use_onnxruntime()
    # The same examples in every run, whatever the speed of the machine.
    settings.register_profile(
        "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("repeatable")
    if config.getoption("--fast"):
        sys.meta_path.insert(0, SkipSlowImports())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take modules and tests, which stay, out of every later collection of garbage: each took half a second."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        slow = {item for item in items if item.get_closest_marker("slow")}
        config.hook.pytest_deselected(items=list(slow))
        items[:] = [item for item in items if item not in slow]
    if onnx_backend.used():
        onnx_backend.mark_skipped(items)


@pytest.fixture(scope="session", params=list(SMALL))
def small_checkpoint(request: pytest.FixtureRequest) -> Path:
    """Build a random checkpoint: tied with two DeepStack levels, or untied with three."""
    return Path(request.getfixturevalue(f"{request.param}_checkpoint"))


@pytest.fixture(scope="session")
def small_model(request: pytest.FixtureRequest, small_checkpoint: Path) -> Path:
    """Export the small checkpoint to a model folder in FP32."""
    return Path(request.getfixturevalue(f"{small_checkpoint.parent.name}_model"))


# Fixtures of their own, so that each is made once although pytest goes back and forth between the parameters.


@pytest.fixture(scope="session")
def tied_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the tied one of the small checkpoints, for tests that need no more than one."""
    return _build_checkpoint("tied", tmp_path_factory)


@pytest.fixture(scope="session")
def untied_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the untied one of the small checkpoints."""
    return _build_checkpoint("untied", tmp_path_factory)


@pytest.fixture(scope="session")
def tied_model(tied_checkpoint: Path) -> Path:
    """Export the tied one of the small checkpoints."""
    return _export(tied_checkpoint)


@pytest.fixture(scope="session")
def untied_model(untied_checkpoint: Path) -> Path:
    """Export the untied one of the small checkpoints."""
    return _export(untied_checkpoint)


def _build_checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs the workbench packages")
    from tests.small_models import build_checkpoint

    tied, deepstack, seed = SMALL[name]
    folder = shared_folder(tmp_path_factory, name) / "checkpoint"
    return made_once(folder, lambda out: build_checkpoint(out, tied=tied, deepstack=deepstack, seed=seed))


def _export(checkpoint: Path) -> Path:
    layout = ONNX if onnx_backend.used() else VLRUN
    return made_once(checkpoint.parent / "fp32", lambda out: export(checkpoint, out, layout))
