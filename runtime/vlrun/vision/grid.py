"""The patch grid of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Patches of one image (or one pair of video frames), in rows and columns; both multiples of ``merge``."""

    height: int
    width: int
    merge: int

    @property
    def patches(self) -> int:
        """Rows that the vision encoder reads."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Visual tokens that the decoder reads: one for each merge x merge block of patches."""
        return self.patches // self.merge**2
