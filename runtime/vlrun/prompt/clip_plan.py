"""Which frames of a video a model sees, and in which size: within its rules, its context and what a CPU affords."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlrun.errors import OptionError
from vlrun.manifest import Manifest
from vlrun.media.clip import Clip
from vlrun.media.frame_sampling import PAIR, fit_frames
from vlrun.media.video import PendingClip, Progress, shown_size
from vlrun.models.family import ModelFamily
from vlrun.types.options import Detail, Options
from vlrun.types.video_rules import VideoRules
from vlrun.vision.grid import Grid

MIN_PAIR_TOKENS = 64
"""Visual tokens of a pair of frames, 256 x 256 pixels: fewer frames are sampled rather than shown with less."""


@dataclass(frozen=True)
class ClipPlan:
    """What is decoded of a video.

    Attributes:
        indices: Numbers of the frames.
        grid: Of a pair of frames.
        notes: Messages for the user.
    """

    indices: tuple[int, ...]
    grid: Grid
    notes: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Visual tokens of all pairs."""
        return -(-len(self.indices) // PAIR) * self.grid.tokens


class ClipPlanner:
    """Plans the clips of one model.

    Args:
        manifest: The model's manifest.
        family: The model's family.
        affordable_tokens: Visual tokens per image that this machine encodes in acceptable time.
    """

    def __init__(self, manifest: Manifest, family: ModelFamily, affordable_tokens: int) -> None:
        self._vision = manifest.vision
        self._rules = manifest.video
        self._family = family
        self._affordable_tokens = affordable_tokens

    def plan(self, pending: PendingClip, options: Options, context: int) -> ClipPlan:
        """Return what is decoded of a video. Raises OptionError and MediaError."""
        self._check_model()
        video, detail = pending.video, options.detail
        own = pending.sampled(self._rules)
        indices, rules = own, self._rules
        if options.max_image_tokens is None and video.max_pixels is None:
            tokens = self._budget(detail, context)
            if detail != "high" and not video.chooses_frames:
                most = max(PAIR * tokens // MIN_PAIR_TOKENS, self._rules.min_frames)
                indices = pending.sampled(replace(rules, max_frames=min(most, rules.max_frames)))
            rules = self._within(rules, tokens)
        rules = self._with_options(rules, options, len(indices))
        width, height = shown_size(pending, len(indices), self._factor, rules)
        largest = shown_size(pending, len(own), self._factor, self._rules)
        plan = ClipPlan(tuple(indices), self._grid(width, height), ())
        note = self._note(pending, plan, (width, height), len(own), largest)
        automatic = rules.max_pixels < self._rules.max_pixels and options.max_image_tokens is None
        return (
            replace(plan, notes=(note,))
            if automatic and (len(indices), width, height) != (len(own), *largest)
            else plan
        )

    def open(self, pending: PendingClip, plan: ClipPlan, progress: Progress | None = None) -> Clip:
        """Decode what was planned. Raises MediaError."""
        patch = self._vision.patch
        shown = plan.grid.width * patch, plan.grid.height * patch
        return pending.open(plan.indices, shown, plan.notes, progress, fixed=True)

    def grid(self, clip: Clip, options: Options, detail: Detail, context: int) -> Grid:
        """Return the grid of each pair of an open clip. Raises OptionError and MediaError."""
        self._check_model()
        width, height = clip.shown
        if not clip.fixed or width % self._factor or height % self._factor:
            rules = self._within(self._rules, self._budget(detail, context))
            rules = self._with_options(rules, options, clip.frames)
            width, height = fit_frames(clip.frames, width, height, self._factor, rules)
        return self._grid(width, height)

    @property
    def _factor(self) -> int:
        return self._vision.patch * self._vision.merge

    def _grid(self, width: int, height: int) -> Grid:
        return Grid(height // self._vision.patch, width // self._vision.patch, self._vision.merge)

    def _budget(self, detail: Detail, context: int) -> int:
        """Return the visual tokens of a video: of detail "high" as many as the model takes."""
        tokens = self._family.video_token_budget(detail)
        if detail == "high":
            return tokens
        share = min(1.0, self._affordable_tokens / self._family.image_token_budget("auto")) if detail == "auto" else 1.0
        return max(1, min(int(tokens * share), context // 2))

    def _within(self, rules: VideoRules, tokens: int) -> VideoRules:
        """Return rules that allow this number of visual tokens."""
        return _limited(rules, tokens * self._factor**2 * PAIR)

    def _with_options(self, rules: VideoRules, options: Options, frames: int) -> VideoRules:
        """Return rules with a user's maximum of tokens of each pair."""
        if options.max_image_tokens is None:
            return rules
        return _limited(self._rules, options.max_image_tokens * self._factor**2 * max(frames, PAIR))

    def _check_model(self) -> None:
        if self._vision.temporal_patch != PAIR:
            raise OptionError(f"this model takes no videos: its patches have {self._vision.temporal_patch} frames")

    @staticmethod
    def _note(
        pending: PendingClip, plan: ClipPlan, size: tuple[int, int], frames: int, largest: tuple[int, int]
    ) -> str:
        return (
            f"{pending.name}: {len(plan.indices)} frames of {size[0]} x {size[1]} ({plan.tokens:,} visual tokens) "
            f"instead of {frames} of {largest[0]} x {largest[1]}, because this machine takes long for more: use detail "
            '"high" (--detail high), or choose with fps, max_frames and max_pixels (--fps, --max-frames, --max-pixels)'
        )


def _limited(rules: VideoRules, max_pixels: int) -> VideoRules:
    most = min(rules.max_pixels, max_pixels)
    return replace(rules, max_pixels=most, min_pixels=min(rules.min_pixels, most))
