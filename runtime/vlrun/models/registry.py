"""The model families by name."""

from __future__ import annotations

from collections.abc import Mapping

from vlrun.manifest import FAMILY, Manifest
from vlrun.models.family import ModelFamily
from vlrun.models.qwen3_vl.family import QWEN3_VL

_FAMILIES: Mapping[str, ModelFamily] = {FAMILY: QWEN3_VL}


def family_of(manifest: Manifest) -> ModelFamily:
    """Return the family of a model folder. ``manifest.read`` has checked its name."""
    return _FAMILIES[manifest.family]
