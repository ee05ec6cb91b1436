"""The protocol of a backend's vision encoder, and its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vlrun.types.arrays import FloatArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid


@dataclass(frozen=True)
class Patches:
    """The N patches of one image: normalized ``pixels [N, channels * temporal_patch * patch**2]`` and their grid.

    The patches of one merge block are neighbours.
    """

    pixels: FloatArray
    grid: Grid


class VisionEncoder(Protocol):
    """A backend's vision encoder."""

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        """Encode one image. Raises InferenceCancelled when ``stopped``."""

    def warm_up(self) -> None:
        """Run once if nothing ran yet: some plugins repack the weights then. Raises DeviceError."""
