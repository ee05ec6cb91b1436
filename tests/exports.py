"""Exports for tests, made once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vlrun.layout import VLRUN, Layout

if TYPE_CHECKING:
    from vlrun_export.quantize import Precision


def export(
    checkpoint: Path, out: Path, layout: Layout = VLRUN, weights: Precision = "fp32", *, check: bool = False
) -> Path:
    """Export without the trial question, which loads the model in a process of its own; return the folder."""
    from vlrun_export import conversion
    from vlrun_export.export import export_checkpoint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "ask_trial_question", lambda folder: None)
        vision = "int8" if weights == "int4" else weights
        export_checkpoint(checkpoint, out, layout=layout, weights=weights, vision=vision, check=check)
    return out


def made_once(out: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make`` writes unless another process of this run has done so. Nobody may change it."""
    out.parent.mkdir(exist_ok=True)
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            make(out)
    return out


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return the path of a folder that all processes of pytest-xdist share."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
