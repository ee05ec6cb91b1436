"""Small models that every room's tests share: random weights, the real architecture, exported once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

SMALL = {"tied": (True, (1, 3), 11), "untied": (False, (0, 2, 4), 12)}
"""Name -> tied embeddings, DeepStack levels, seed."""


@pytest.fixture(scope="session", params=list(SMALL))
def small_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint folder, tied with two DeepStack levels or untied with three."""
    pytest.importorskip("torch", reason="needs the workbench packages")
    from tests.small_models import build_checkpoint

    tied, deepstack, seed = SMALL[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    return build_checkpoint(folder, tied=tied, deepstack=deepstack, seed=seed)


@pytest.fixture(scope="session")
def small_model(small_checkpoint: Path) -> Path:
    """The same as a model folder in FP32."""
    from vlrun_export.export import export_checkpoint

    out = small_checkpoint.parent / "fp32"
    export_checkpoint(small_checkpoint, out, weights="fp32", vision="fp32", check=False)
    return out
