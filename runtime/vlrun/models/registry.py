"""The model families by name."""

from __future__ import annotations

from collections.abc import Mapping

from vlrun.manifest import FAMILY, Manifest
from vlrun.models.family import ModelFamily
from vlrun.models.qwen3_vl.family import QWEN3_VL

_FAMILIES: Mapping[str, ModelFamily] = {FAMILY: QWEN3_VL}
_MODEL_TYPES: Mapping[str, str] = {"qwen3_vl": FAMILY}
"""Families by the ``model_type`` of a config.json."""


def family_of_model_type(model_type: str) -> str | None:
    """Return the name of the family of checkpoints of this type; None if there is none."""
    return _MODEL_TYPES.get(model_type)


def family_of(manifest: Manifest) -> ModelFamily:
    """Return the family of a model folder. ``manifest.read`` has checked its name."""
    return _FAMILIES[manifest.family]
