"""Clips: what the model sees of a video, as pairs of frames with their times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlrun.errors import DamagedMedia, OptionError
from vlrun.media.frame_sampling import PAIR, pair_times
from vlrun.media.transform import ImageTransform
from vlrun.types.arguments import check_fields, flag, instance, number, text, tuple_of, whole_number

Rgb = npt.NDArray[np.uint8]
"""Pixels of a frame ``[height, width, 3]``."""


@dataclass(frozen=True)
class FramePair:
    """Two frames that the model sees as one image, after the text of their time.

    Attributes:
        frames: Pixels ``[2, height, width, 3]``, uint8.
        seconds: Mean of the times of the two frames in the video.
        sha256: Hash of shape and pixels.
    """

    frames: Rgb
    seconds: float
    sha256: str

    def __post_init__(self) -> None:
        frames: object = self.frames
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4:
            raise OptionError("frames must be an array [2, height, width, 3] uint8")
        if frames.shape[0] != PAIR or frames.shape[3] != 3 or 0 in frames.shape:
            raise OptionError(f"frames must be an array [2, height, width, 3] uint8, not {list(frames.shape)}")
        check_fields(self, {"seconds": number, "sha256": text})

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def to_original(self) -> ImageTransform:
        """The map of its pixels to themselves, as that of an image that is the original."""
        return ImageTransform(self.size)


@dataclass(frozen=True)
class Clip:
    """A video that was opened: its sampled frames, resized.

    Attributes:
        pairs: The pairs of frames, in order.
        size: Width and height of the video, upright.
        frames: Number of sampled frames: one less than those of the pairs if the last one was repeated.
        notes: Messages for the user about omissions and changes.
        label: What the prompt calls it, such as "Window 3"; empty to number it if there are several videos or images.
        fixed: Whether the pixels are those that the model sees. Otherwise the prompt may resize them further, within
            the visual tokens of its options.
    """

    pairs: tuple[FramePair, ...]
    size: tuple[int, int]
    frames: int
    notes: tuple[str, ...] = ()
    label: str = ""
    fixed: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "pairs": tuple_of(instance(FramePair), "frame pairs"),
                "size": tuple_of(whole_number, "two numbers"),
                "frames": whole_number,
                "notes": tuple_of(text, "texts"),
                "label": text,
                "fixed": flag,
            },
        )
        if not self.pairs or len({pair.size for pair in self.pairs}) > 1 or len(self.size) != 2:
            raise OptionError("pairs must be at least one pair of frames, all of the same size, and size two numbers")

    @property
    def seconds(self) -> tuple[float, ...]:
        """The times of the pairs."""
        return tuple(pair.seconds for pair in self.pairs)

    @property
    def pixels(self) -> int:
        """Pixels of all frames."""
        return sum(pair.frames.size // 3 for pair in self.pairs)

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of its pixels."""
        return self.pairs[0].size


def make_pair(first: Rgb, second: Rgb, seconds: float) -> FramePair:
    """Return a pair of frames of one size."""
    frames = np.stack([first, second])
    digest = hashlib.sha256(f"pair {frames.shape}".encode())  # never that of a still image
    digest.update(frames.data)
    return FramePair(frames, seconds, digest.hexdigest())


def make_clip(
    frames: Iterable[tuple[float, Rgb]],
    size: tuple[int, int],
    notes: tuple[str, ...] = (),
    label: str = "",
    *,
    fixed: bool = False,
) -> Clip:
    """Return a clip of frames with their seconds, which are taken one by one. An odd last frame is repeated.

    Raises DamagedMedia if there is no frame.
    """
    pairs: list[FramePair] = []
    count = 0
    first: tuple[float, Rgb] | None = None
    for count, frame in enumerate(frames, 1):  # noqa: B007 - the number of frames
        if first is None:
            first = frame
            continue
        pairs.append(make_pair(first[1], frame[1], *pair_times([first[0], frame[0]])))
        first = None
    if first is not None:
        pairs.append(make_pair(first[1], first[1], first[0]))
    if not pairs:
        raise DamagedMedia("the video has no frame that can be decoded")
    return Clip(tuple(pairs), size, count, notes, label, fixed)
