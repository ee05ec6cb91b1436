"""Which frames of a video a model sees, and in which size: within its rules, its context and what a CPU affords."""

from __future__ import annotations

from collections.abc import Sequence
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
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Visual tokens of all pairs."""
        return pairs_of(len(self.indices)) * self.grid.tokens


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

    def plan(self, pending: PendingClip, options: Options, context: int, among: int = 1) -> ClipPlan:
        """Return what is decoded of a video, before any of it is.

        Args:
            pending: The video.
            options: Of the request.
            context: The longest prompt.
            among: Number of videos that share what is affordable.

        Raises:
            OptionError: The model takes no videos.
            MediaError: The frames are too small or too narrow.
        """
        if self._vision.temporal_patch != PAIR:
            raise OptionError(f"this model takes no videos: its patches have {self._vision.temporal_patch} frames")
        own = pending.sampled(self._rules)
        indices = own
        if self._is_automatic(pending, options) and not pending.video.chooses_frames and options.detail != "high":
            most = max(PAIR * self._budget(options.detail, context, among) // MIN_PAIR_TOKENS, self._rules.min_frames)
            indices = pending.sampled(replace(self._rules, max_frames=min(most, self._rules.max_frames)))
        plan = self._sized(pending, indices, options, (context, among))
        largest = ClipPlan(tuple(own), self._grid(*shown_size(pending, len(own), self._factor, self._rules)))
        if not self._is_automatic(pending, options) or plan == largest:
            return plan
        return replace(plan, notes=(self._note(pending.name, plan, largest),))

    def open(
        self,
        pending: PendingClip,
        options: Options,
        context: int,
        progress: Progress | None = None,
        among: int = 1,
    ) -> Clip:
        """Decode what was planned. Of keyframes there may be fewer, which are shown larger. Raises as ``plan``."""
        plan = self.plan(pending, options, context, among)
        if pending.video.keyframes:
            most = len(plan.indices)
            changed = pending.changed(self._rules, most, progress)
            plan = self._sized(pending, changed, options, (context, among))
            reached = "as many as are used" if len(changed) == most else "all that changed"
            plan = replace(plan, notes=(f"{pending.name}: {len(changed)} keyframes, {reached}",))
        return pending.open(plan.indices, self._pixels(plan.grid), plan.notes, progress, fixed=True)

    def _sized(self, pending: PendingClip, indices: Sequence[int], options: Options, room: tuple[int, int]) -> ClipPlan:
        """Return the plan for some frames. ``room``: the context, and the number of videos that share it."""
        rules = self._rules
        if self._is_automatic(pending, options):
            rules = self._within(self._budget(options.detail, *room))
        elif options.max_image_tokens is not None:
            rules = self._within(options.max_image_tokens * pairs_of(len(indices)))
        return ClipPlan(tuple(indices), self._grid(*shown_size(pending, len(indices), self._factor, rules)))

    @staticmethod
    def _is_automatic(pending: PendingClip, options: Options) -> bool:
        """Return whether the size of the frames is not the user's choice."""
        return options.max_image_tokens is None and pending.video.max_pixels is None

    def grid(self, clip: Clip, options: Options, context: int, among: int) -> Grid:
        """Return the grid of each pair of an open clip. ``options``: with the clip's detail. Raises as ``plan``."""
        width, height = clip.shown
        if not clip.fixed or width % self._factor or height % self._factor:
            pairs, tokens = pairs_of(clip.frames), options.max_image_tokens
            rules = self._within(self._budget(options.detail, context, among) if tokens is None else tokens * pairs)
            width, height = fit_frames(clip.frames, width, height, self._factor, rules)
        return self._grid(width, height)

    @property
    def _factor(self) -> int:
        return self._vision.patch * self._vision.merge

    def _grid(self, width: int, height: int) -> Grid:
        return Grid(height // self._vision.patch, width // self._vision.patch, self._vision.merge)

    def _pixels(self, grid: Grid) -> tuple[int, int]:
        return grid.width * self._vision.patch, grid.height * self._vision.patch

    def _budget(self, detail: Detail, context: int, among: int) -> int:
        """Return the visual tokens of one ``among`` several videos: of detail "high" as many as the model takes."""
        tokens = self._family.video_token_budget(detail)
        if detail == "high":
            return tokens
        share = min(1.0, self._affordable_tokens / self._family.image_token_budget("auto")) if detail == "auto" else 1.0
        return max(1, min(int(tokens * share), context // 2) // among)

    def _within(self, tokens: int) -> VideoRules:
        """Return the model's rules, with as many pixels as this number of visual tokens shows at most."""
        most = min(self._rules.max_pixels, tokens * self._factor**2 * PAIR)
        return replace(self._rules, max_pixels=most, min_pixels=min(self._rules.min_pixels, most))

    def _note(self, name: str, plan: ClipPlan, largest: ClipPlan) -> str:
        shown, full = (
            "{} frames of {} x {}".format(len(one.indices), *self._pixels(one.grid)) for one in (plan, largest)
        )
        return (
            f"{name}: {shown} ({plan.tokens:,} visual tokens) instead of {full}, because this machine takes long for "
            'more: use detail "high" (--detail high), or choose with fps, max_frames and max_pixels (--fps, '
            "--max-frames, --max-pixels)"
        )


def pairs_of(frames: int) -> int:
    """Return the pairs that a number of frames makes."""
    return -(-frames // PAIR)
