"""The patch grid of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Rows and columns of the patches of one image (or pair of video frames), both multiples of ``merge``."""

    height: int
    width: int
    merge: int

    @property
    def patches(self) -> int:
        """Number of patches, the vision encoder's tokens."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Number of visual tokens, the decoder's: one for each merge x merge block of patches."""
        return self.patches // self.merge**2
