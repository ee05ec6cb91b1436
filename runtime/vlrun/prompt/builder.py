"""From turns of a conversation to a prompt: what the model is shown, and how much of it.

Everything that can be wrong with a question is found here, before the model works. Knows templates, images and
budgets; does not know the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vlrun.errors import ContextLengthExceeded, OptionError
from vlrun.manifest import Manifest
from vlrun.media.image import Image, ImageSource, open_image
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message, Prompt
from vlrun.types.options import Detail, Options
from vlrun.types.turn import GeneratedText, Tool, Turn
from vlrun.vision.grid import Grid
from vlrun.vision.patches import grid_of

DEFAULT_QUESTION = "Describe this image."
Images: TypeAlias = ImageSource | Sequence[ImageSource]

LOW_DETAIL, HIGH_DETAIL = 256, 2560
"""Visual tokens an image: the least that Qwen advises, and twice its most, for small print."""
MOST_IMAGES = 64
MOST_TOOLS = 128


@dataclass(frozen=True)
class BuiltPrompt:
    """A question made ready: its prompt, the images with their grids, and what there is to say about these.

    ``subject``: the image that places in the answer are in, None if that could be several: that of the last turn
    which shows any.
    """

    prompt: Prompt
    images: Sequence[tuple[Image, Grid]]
    options: Options
    notes: tuple[str, ...] = ()
    subject: Image | None = None


def ask_about(sources: Images, question: str) -> Turn:
    """The turn of a question about one image, several, or none. Raises MediaError, or OptionError without a text."""
    text: object = question  # None would be rendered as an image
    if not isinstance(text, str) or not text.strip():
        raise OptionError("the question must be a text that is not empty")
    return Turn("user", (*(open_image(source) for source in listed(sources)), question))


def images_of(turn: Turn) -> int:
    """How many images a turn shows."""
    return sum(isinstance(part, Image) for part in turn.parts)


def _details(turn: Turn, options: Options) -> tuple[Detail, ...]:
    """Of each image of a turn."""
    return turn.details or (options.detail,) * images_of(turn)


class PromptBuilder:
    """Makes questions ready for one model. ``auto``: visual tokens an image that this box sees in good time."""

    def __init__(self, manifest: Manifest, template: ChatTemplate, auto: int = HIGH_DETAIL) -> None:
        self._manifest = manifest
        self._template = template
        self._auto = auto

    def prepare(self, turns: Sequence[Turn], options: Options, tools: Sequence[Tool] = ()) -> BuiltPrompt:
        """A conversation that waits for the model's answer. Raises OptionError and MediaError."""
        images = [part for turn in turns for part in turn.parts if isinstance(part, Image)]
        if len(images) > MOST_IMAGES or len(tools) > MOST_TOOLS:
            raise OptionError(f"at most {MOST_IMAGES} images and {MOST_TOOLS} tools are possible")
        details = [detail for turn in turns for detail in _details(turn, options)]
        shown = list(zip(images, details, strict=True))
        grids = [self._grid(image, options, self._most(options, detail)) for image, detail in shown]
        prompt = self._template.encode(named(turns), [grid.tokens for grid in grids], tools)
        notes = tuple(dict.fromkeys(note for image in images for note in image.notes))
        auto, most = options.auto_image_tokens, self._most(options, "auto")
        if options.max_image_tokens is None and most < auto:
            alike = zip(shown, grids, strict=True)
            by_auto = [(image, grid) for (image, detail), grid in alike if detail == "auto"]
            if any(self._grid(image, options, auto).tokens > grid.tokens for image, grid in by_auto):
                notes += (f"shown with at most {most} visual tokens an image, for this box needs long for more",)
        return BuiltPrompt(prompt, list(zip(images, grids, strict=True)), options, notes, _subject(turns))

    def check_room(self, asked: BuiltPrompt, context: int | None) -> None:
        """Raise ContextLengthExceeded if the prompt leaves no room for an answer in ``context`` tokens, nor in what the
        model was made for.
        """
        length, most = len(asked.prompt.ids), min(context or sys.maxsize, self._manifest.text.max_positions)
        if length < most:
            return
        visual = sum(grid.tokens for _, grid in asked.images)
        raise ContextLengthExceeded(
            f"the prompt has {length} tokens ({visual} of images, {length - visual} of text), "
            f"but the context is {most}, one of them for the answer",
            "fewer images, a smaller max_image_tokens or a longer context may help",
        )

    def _most(self, options: Options, detail: Detail) -> int:
        """Visual tokens an image at most."""
        if options.max_image_tokens is not None:
            return options.max_image_tokens
        auto = min(options.auto_image_tokens, self._auto)
        return max(options.min_image_tokens or 0, {"low": LOW_DETAIL, "auto": auto, "high": HIGH_DETAIL}[detail])

    def _grid(self, image: Image, options: Options, most: int) -> Grid:
        vision, limits = self._manifest.vision, self._manifest.preprocessing
        token_pixels = (vision.patch * vision.merge) ** 2
        if most * token_pixels < limits.min_pixels:
            needed = -(-limits.min_pixels // token_pixels)
            raise OptionError(f"max_image_tokens is {most}, but this model needs at least {needed}")
        least = (options.min_image_tokens or 0) * token_pixels
        return grid_of(image, limits, vision, max_pixels=most * token_pixels, min_pixels=least)


def _subject(turns: Sequence[Turn]) -> Image | None:
    for turn in reversed(turns):
        if shown := [part for part in turn.parts if isinstance(part, Image)]:
            return shown[0] if len(shown) == 1 else None
    return None


def named(turns: Sequence[Turn]) -> list[Message]:
    """Messages in which images have the numbers that Qwen's template gives them (``add_vision_id``) where there are
    several. One that was alone so far stays without: it is in the cache like that.
    """
    messages, seen = [], 0
    for turn in turns:
        alone = seen + images_of(turn) < 2
        parts: list[str | ImagePlaceholder | GeneratedText] = []
        for part in turn.parts:
            if isinstance(part, Image):
                seen += 1
                parts += [ImagePlaceholder()] if alone else [f"Picture {seen}: ", ImagePlaceholder()]
            else:
                parts.append(part)
        messages.append(Message(turn.role, tuple(parts), turn.tool_calls))
    return messages


def listed(images: Images) -> Sequence[ImageSource]:
    """Images as a list: a single one becomes a list of one."""
    if isinstance(images, list | tuple):
        return images
    return [images]  # type: ignore[list-item] # a str is a path and a Sequence too
