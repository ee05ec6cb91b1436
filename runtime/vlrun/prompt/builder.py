"""Builds prompts from turns: visual tokens of images and videos, chat template, context length."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vlrun.engine.request import PromptImage, Request
from vlrun.engine.sampler import TokenSampler
from vlrun.errors import ContextLengthExceeded, DamagedModel, OptionError
from vlrun.manifest import Manifest
from vlrun.media.clip import Clip, FramePair
from vlrun.media.image import Image
from vlrun.media.pending_image import (
    MAX_IMAGES,
    OpenClip,
    Pending,
    PendingMedia,
    Source,
    open_for_any_model,
    open_images,
    read_headers,
)
from vlrun.media.video import PendingClip, Progress
from vlrun.models.family import ModelFamily
from vlrun.models.registry import family_of
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message, Part, Prompt, VideoPlaceholder
from vlrun.prompt.clip_plan import ClipPlanner
from vlrun.prompt.visual_tokens import ClipTokens
from vlrun.types.options import Detail, Options
from vlrun.types.turn import MAX_TOOLS, Tool, Turn
from vlrun.vision.grid import Grid
from vlrun.vision.image_encoder import PreparedImage
from vlrun.vision.patches import grid_of, resize

TIME_TOKENS = 12
"""Of the text of the time of a pair of frames, at most, with what encloses its visual tokens."""
DEFAULT_QUESTION = "Describe this image."
REDUCED_NOTE = (
    "limited to {:,} visual tokens per image, because this machine takes long for more: "
    'use detail "high" (--detail high) if small print or small objects matter'
)

Images: TypeAlias = Source | Sequence[Source]


@dataclass(frozen=True)
class BuiltPrompt:
    """A prompt with its images.

    Attributes:
        images: The images and pairs of video frames with their grids, in order.
        notes: Messages for the user about the images.
        subject: The image that coordinates in the answer refer to: the single image of the last turn with images.
        clip: The clip that times in the answer refer to: the last one.
    """

    prompt: Prompt
    images: Sequence[tuple[Image | FramePair, Grid]]
    options: Options
    notes: tuple[str, ...] = ()
    subject: Image | None = None
    clip: Clip | None = None

    @property
    def prepared_images(self) -> list[PreparedImage]:
        """The images as the vision encoder takes them."""
        return [PreparedImage(image, grid) for image, grid in self.images]


class PromptBuilder:
    """Builds the prompts of one model.

    Args:
        manifest: The model's manifest.
        template: The model's chat template.
        affordable_tokens: Visual tokens per image that this machine encodes in acceptable time; limits detail "auto".
    """

    def __init__(self, manifest: Manifest, template: ChatTemplate, affordable_tokens: int = sys.maxsize) -> None:
        self._manifest = manifest
        self._template = template
        self._family = family_of(manifest)
        self._affordable_tokens = affordable_tokens
        self._clips = ClipPlanner(manifest, self._family, affordable_tokens)

    def build(self, turns: Sequence[Turn], options: Options, tools: Sequence[Tool] = ()) -> BuiltPrompt:
        """Build the prompt of a conversation, up to the model's answer. Raises OptionError and MediaError."""
        media = [part for turn in turns for part in turn.parts if isinstance(part, Image | Clip)]
        if len(media) > MAX_IMAGES or len(tools) > MAX_TOOLS:
            raise OptionError(f"a conversation can have at most {MAX_IMAGES} images and {MAX_TOOLS} tools")
        details = [detail for turn in turns for detail in turn.details or (options.detail,) * image_count(turn)]
        among = sum(isinstance(part, Clip) and not part.fixed for part in media)
        grids = [self._grid_of(part, options, detail, among) for part, detail in zip(media, details, strict=True)]
        counts = [
            ClipTokens(part.seconds, grid.tokens) if isinstance(part, Clip) else grid.tokens
            for part, grid in zip(media, grids, strict=True)
        ]
        described = [_without_strict(tool) for tool in tools]
        prompt = self._template.encode(number_images(turns, self._family), counts, described)
        self._check_ids(prompt)
        notes = dict.fromkeys(note for part in media for note in part.notes)
        automatic = [(i, g) for i, g, detail in zip(media, grids, details, strict=True) if detail == "auto"]
        if any(isinstance(part, Image) and self._is_reduced(part, grid, options) for part, grid in automatic):
            notes[REDUCED_NOTE.format(self._token_budget(options, "auto"))] = None
        images = [
            (image, grid)
            for part, grid in zip(media, grids, strict=True)
            for image in (part.pairs if isinstance(part, Clip) else (part,))
        ]
        clip = next((part for part in reversed(media) if isinstance(part, Clip)), None)
        return BuiltPrompt(prompt, images, options, tuple(notes), _subject(turns), clip)

    def build_raw(self, text: str, options: Options) -> BuiltPrompt:
        """Build the prompt of a text without the chat template. Raises OptionError."""
        prompt = self._template.encode_raw(text)
        if not prompt.ids:
            raise OptionError("the prompt must not be empty")
        self._check_ids(prompt)
        return BuiltPrompt(prompt, (), options)

    def request(self, built: BuiltPrompt, sampler: TokenSampler, max_tokens: int) -> Request:
        """Build the engine's request for a prompt."""
        prompt, options = built.prompt, built.options
        placed = list(zip(prompt.image_offsets, built.prepared_images, strict=True))
        return Request(
            ids=np.array(prompt.ids, np.int64),
            positions=self._family.token_positions(len(prompt.ids), [(start, image.grid) for start, image in placed]),
            images=tuple(PromptImage(start, image) for start, image in placed),
            sampler=sampler,
            max_tokens=max_tokens,
            eos=frozenset(self._manifest.tokens.eos),
            repetition_guard=options.repetition_guard,
            prompt_lookup=options.prompt_lookup,
            record_attention=options.heatmap,
        )

    def check_context(self, built: BuiltPrompt, context: int | None) -> None:
        """Raise ContextLengthExceeded if ``context`` or the model's limit leaves no token for the answer."""
        length, limit = len(built.prompt.ids), self._limit(context)
        if length < limit:
            return
        visual = sum(grid.tokens for _, grid in built.images)
        raise ContextLengthExceeded(
            f"the prompt has {length} tokens ({visual} of images, {length - visual} of text and tools), but the "
            f"context is {limit}, one of them for the answer: {self._advice(limit, mostly_images=2 * visual > length)}"
        )

    def question_turn(self, sources: Images, question: str, options: Options, context: int | None) -> Turn:
        """Return the turn of a question about images, of which only the pixels are kept that the model sees.

        Images are decoded one after another, and only if all together fit into ``context``.

        Raises:
            MediaError: An image cannot be read.
            OptionError: The question is empty, or there are too many images.
            ContextLengthExceeded: The images alone are too long.
        """
        check_question(question)
        pending = read_headers(as_list(sources))
        self.check_pending(pending, options, context)
        among = clip_count(pending)
        return Turn("user", (*(self._opened(one, options, context, among) for one in pending), question))

    def _opened(self, pending: PendingMedia, options: Options, context: int | None, among: int) -> Image | Clip:
        if isinstance(pending, Clip):
            return pending
        if isinstance(pending, PendingClip):
            return self.open_clip(pending, options, context, among=among)
        return self._resized(pending, options)

    def open_clip(
        self,
        pending: PendingClip,
        options: Options,
        context: int | None,
        progress: Progress | None = None,
        among: int = 1,
        before: Sequence[Clip] = (),
    ) -> Clip:
        """Decode the frames of a video that the model sees, and only them. Raises MediaError and OptionError.

        Args:
            pending: The video.
            options: Of the request.
            context: The context as far as it is known.
            progress: Called with the number of decoded frames, and of all.
            among: Number of videos of the question, which share what is affordable.
            before: The clips of earlier questions. They keep their part of the context, so their prefix stays cached.
        """
        taken = sum(self._tokens_of(clip, options, context, 1) + TIME_TOKENS * len(clip.pairs) for clip in before)
        return self._clips.open(pending, options, max(self._limit(context) - taken, 1), progress, among)

    def _resized(self, pending: Pending, options: Options) -> Image:
        """Open and resize an image. When this returns, nothing refers to its original pixels."""
        with pending.opened(self.shown_size(pending.size, options, options.detail)) as image:
            return self.resize(image, options, options.detail)

    def check_pending(self, pending: Sequence[PendingMedia], options: Options, context: int | None) -> None:
        """Check the sizes of images and videos before they are decoded. Raises as ``question_turn``."""
        among = clip_count(pending)
        self._check_total(sum(self._tokens_of(one, options, context, among) for one in pending), context)

    def _tokens_of(self, pending: PendingMedia, options: Options, context: int | None, among: int) -> int:
        if isinstance(pending, PendingClip):
            return self._clips.plan(pending, options, self._limit(context), among).tokens
        if isinstance(pending, Clip):
            return len(pending.pairs) * self._grid_of(pending, options, options.detail, among).tokens
        return self._grid(pending.size, options, self._token_budget(options, options.detail)).tokens

    def check_visual_tokens(
        self, images: Sequence[tuple[tuple[int, int], Detail]], options: Options, context: int | None
    ) -> None:
        """Check the sizes of images before they are decoded. Raises as ``check_context``, and MediaTooLarge."""
        tokens = sum(self._grid(size, options, self._token_budget(options, detail)).tokens for size, detail in images)
        self._check_total(tokens, context)

    def _check_total(self, tokens: int, context: int | None) -> None:
        if tokens >= (limit := self._limit(context)):
            raise ContextLengthExceeded(
                f"the images have {tokens} tokens, but the context is {limit}, one of them for the answer: "
                f"{self._advice(limit, mostly_images=True)}"
            )

    def shown_size(self, size: tuple[int, int], options: Options, detail: Detail) -> tuple[int, int]:
        """Return width and height of what the model sees of an image. Raises MediaTooLarge for its side ratio."""
        grid = self._grid(size, options, self._token_budget(options, detail))
        return grid.width * self._manifest.vision.patch, grid.height * self._manifest.vision.patch

    def resize(self, image: Image, options: Options, detail: Detail) -> Image:
        """Return the image with only the pixels that the model sees. Raises MediaTooLarge for its side ratio."""
        grid = self._grid(image.size, options, self._token_budget(options, detail))
        return resize(image, grid, self._manifest.vision)

    def _check_ids(self, prompt: Prompt) -> None:
        """Raise DamagedModel for ids beyond the vocabulary: the decoder would read foreign memory."""
        size = self._manifest.text.vocab_size
        for token in (min(prompt.ids, default=0), max(prompt.ids, default=0)):
            if not 0 <= token < size:
                raise DamagedModel(
                    f"the prompt has the token {token}, but the model has only {size}: "
                    "the tokenizer or the saved conversation is damaged"
                )

    def _advice(self, limit: int, *, mostly_images: bool) -> str:
        """Say how a prompt gets shorter, or the context longer."""
        shorter = "send fewer images or lower max_image_tokens" if mostly_images else "send less text or fewer tools"
        longest = self._manifest.text.max_positions
        return f"{shorter}, or {f'raise the context, up to {longest}' if limit < longest else 'use another model'}"

    def _limit(self, context: int | None) -> int:
        return min(context or sys.maxsize, self._manifest.text.max_positions)

    def _auto_budget(self, options: Options) -> int:
        return options.auto_image_tokens or self._family.image_token_budget("auto")

    def _token_budget(self, options: Options, detail: Detail) -> int:
        """Return the maximum of visual tokens per image."""
        if options.max_image_tokens is not None:
            return options.max_image_tokens
        if detail == "auto":
            budget = min(self._auto_budget(options), self._affordable_tokens)
        else:
            budget = self._family.image_token_budget(detail)
        return max(options.min_image_tokens or 0, budget)

    def _is_reduced(self, image: Image, grid: Grid, options: Options) -> bool:
        """Return whether an image of detail "auto" has fewer visual tokens because this machine is slow."""
        auto = self._auto_budget(options)
        if options.max_image_tokens is not None or self._token_budget(options, "auto") >= auto:
            return False
        return self._grid(image.size, options, auto).tokens > grid.tokens

    def _grid_of(self, part: Image | Clip, options: Options, detail: Detail, among: int) -> Grid:
        """Return the grid of an image, or of each pair of a clip."""
        if isinstance(part, Clip):
            return self._clips.grid(part, replace(options, detail=detail), self._limit(None), max(among, 1))
        return self._grid(part.size, options, self._token_budget(options, detail))

    def _grid(self, size: tuple[int, int], options: Options, max_tokens: int) -> Grid:
        vision, limits = self._manifest.vision, self._manifest.preprocessing
        token_pixels = (vision.patch * vision.merge) ** 2
        if max_tokens * token_pixels < limits.min_pixels:
            needed = -(-limits.min_pixels // token_pixels)
            raise OptionError(f"max_image_tokens is {max_tokens}, but this model needs at least {needed}")
        min_pixels = (options.min_image_tokens or 0) * token_pixels
        return grid_of(size, limits, vision, max_pixels=max_tokens * token_pixels, min_pixels=min_pixels)


def user_turn(sources: Images, question: str, open_clip: OpenClip = open_for_any_model) -> Turn:
    """Return the turn of a question about any number of images and videos.

    Args:
        sources: The images, which are kept whole, and the videos.
        question: The question.
        open_clip: Opens a video, of so many in the question.

    Raises:
        MediaError: An image cannot be read.
        OptionError: The question is empty, or there are too many images.
    """
    check_question(question)
    return Turn("user", (*open_images(as_list(sources), open_clip), question))


def check_question(question: object) -> None:
    """Raise OptionError for a question that is empty or no text."""
    if not isinstance(question, str) or not question.strip():  # untyped callers may pass None
        raise OptionError("the question must be a non-empty text")


def as_list(images: Images) -> Sequence[Source]:
    """Return images as a list, also a single one."""
    if isinstance(images, list | tuple):
        return images
    return [images]  # type: ignore[list-item] # a str is a path, but also a Sequence


def clip_count(pending: Sequence[PendingMedia]) -> int:
    """Return the number of videos of a question."""
    return sum(isinstance(one, PendingClip | Clip) for one in pending)


def clips_of(turns: Sequence[Turn]) -> list[Clip]:
    """Return the clips of a conversation."""
    return [part for turn in turns for part in turn.parts if isinstance(part, Clip)]


def image_count(turn: Turn) -> int:
    """Return the number of images and videos in a turn."""
    return sum(isinstance(part, Image | Clip) for part in turn.parts)


def number_images(turns: Sequence[Turn], family: ModelFamily) -> list[Message]:
    """Return the messages, with a numbered label before each image or video if there are several. Pages have their own.

    If the first turn has a single image, it never gets a label, so that the cached prefix stays valid.
    """
    messages, images, clips = [], 0, 0
    for turn in turns:
        unnamed = sum(isinstance(part, Image | Clip) and not part.label for part in turn.parts)
        single = images + clips + unnamed < 2  # so far
        parts: list[Part] = []
        for part in turn.parts:
            if not isinstance(part, Image | Clip):
                parts.append(part)
                continue
            label = f"{part.label}: "
            if isinstance(part, Clip) and not part.label:
                clips += 1
                label = family.video_label(clips)
            elif not part.label:
                images += 1
                label = family.image_label(images)
            placeholder = VideoPlaceholder() if isinstance(part, Clip) else ImagePlaceholder()
            parts += [placeholder] if single and not part.label else [label, placeholder]
        messages.append(Message(turn.role, tuple(parts), turn.tool_calls, turn.reasoning))
    return messages


def _subject(turns: Sequence[Turn]) -> Image | None:
    for turn in reversed(turns):
        if media := [part for part in turn.parts if isinstance(part, Image | Clip)]:
            return media[0] if len(media) == 1 and isinstance(media[0], Image) else None
    return None


def _without_strict(tool: Tool) -> Tool:
    """Return a tool as models know it: ``strict`` is for the grammar."""
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" not in function:
        return tool
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
