"""From turns of a conversation to a prompt: what the model is shown, and how much of it.

Everything that can be wrong with a question is found here, before the model works. Knows templates, pictures and
budgets; does not know the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vlrun.errors import ContextLengthExceeded, OptionError
from vlrun.manifest import Manifest
from vlrun.media.image import Picture, PictureSource, open_picture
from vlrun.models.qwen3_vl.positions import Grid
from vlrun.prompt.chat_template import ChatTemplate, Message, PicturePart, Prompt, Role, SaidPart, Tool, ToolCall
from vlrun.types import Detail, Options
from vlrun.vision.patches import grid_of

DEFAULT_QUESTION = "Describe this image."
Pictures: TypeAlias = PictureSource | Sequence[PictureSource]

LOW_DETAIL, HIGH_DETAIL = 256, 2560
"""Visual tokens a picture: the least that Qwen advises, and twice its most, for small print."""
MOST_PICTURES = 64
MOST_TOOLS = 128


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: texts and pictures in order (open a file with ``vlrun.open_picture``), what the model
    said token by token, and the tools that it called. ``details``: of each picture, where they are not the options'.
    """

    role: Role
    parts: tuple[str | Picture | SaidPart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A question made ready: its prompt, the pictures with their grids, and what there is to say about these.

    ``subject``: the picture that places in the answer are in, None if that could be several: that of the last turn
    which shows any.
    """

    prompt: Prompt
    pictures: Sequence[tuple[Picture, Grid]]
    options: Options
    notes: tuple[str, ...] = ()
    subject: Picture | None = None


def ask_about(sources: Pictures, question: str) -> Turn:
    """The turn of a question about one picture, several, or none. Raises MediaError, or OptionError without a text."""
    text: object = question  # None would be rendered as a picture
    if not isinstance(text, str) or not text.strip():
        raise OptionError("the question must be a text that is not empty")
    return Turn("user", (*(open_picture(source) for source in listed(sources)), question))


def pictures_of(turn: Turn) -> int:
    """How many pictures a turn shows."""
    return sum(isinstance(part, Picture) for part in turn.parts)


def _details(turn: Turn, options: Options) -> tuple[Detail, ...]:
    """Of each picture of a turn."""
    return turn.details or (options.detail,) * pictures_of(turn)


class Preparer:
    """Makes questions ready for one model. ``auto``: visual tokens a picture that this box sees in good time."""

    def __init__(self, manifest: Manifest, template: ChatTemplate, auto: int = HIGH_DETAIL) -> None:
        self._manifest = manifest
        self._template = template
        self._auto = auto

    def prepare(self, turns: Sequence[Turn], options: Options, tools: Sequence[Tool] = ()) -> Asked:
        """A conversation that waits for the model's answer. Raises OptionError and MediaError."""
        pictures = [part for turn in turns for part in turn.parts if isinstance(part, Picture)]
        if len(pictures) > MOST_PICTURES or len(tools) > MOST_TOOLS:
            raise OptionError(f"at most {MOST_PICTURES} pictures and {MOST_TOOLS} tools are possible")
        details = [detail for turn in turns for detail in _details(turn, options)]
        shown = list(zip(pictures, details, strict=True))
        grids = [self._grid(picture, options, self._most(options, detail)) for picture, detail in shown]
        prompt = self._template.encode(named(turns), [grid.tokens for grid in grids], tools)
        notes = tuple(dict.fromkeys(note for picture in pictures for note in picture.notes))
        auto, most = options.auto_image_tokens, self._most(options, "auto")
        if options.max_image_tokens is None and most < auto:
            alike = zip(shown, grids, strict=True)
            by_auto = [(picture, grid) for (picture, detail), grid in alike if detail == "auto"]
            if any(self._grid(picture, options, auto).tokens > grid.tokens for picture, grid in by_auto):
                notes += (f"shown with at most {most} visual tokens a picture, for this box needs long for more",)
        return Asked(prompt, list(zip(pictures, grids, strict=True)), options, notes, _subject(turns))

    def check_room(self, asked: Asked, context: int | None) -> None:
        """Raise ContextLengthExceeded if the prompt leaves no room for an answer in ``context`` tokens, nor in what the
        model was made for.
        """
        length, most = len(asked.prompt.ids), min(context or sys.maxsize, self._manifest.text.max_positions)
        if length < most:
            return
        visual = sum(grid.tokens for _, grid in asked.pictures)
        raise ContextLengthExceeded(
            f"the prompt has {length} tokens ({visual} of pictures, {length - visual} of text), "
            f"but the context is {most}, one of them for the answer",
            "fewer pictures, a smaller max_image_tokens or a longer context may help",
        )

    def _most(self, options: Options, detail: Detail) -> int:
        """Visual tokens a picture at most."""
        if options.max_image_tokens is not None:
            return options.max_image_tokens
        auto = min(options.auto_image_tokens, self._auto)
        return max(options.min_image_tokens or 0, {"low": LOW_DETAIL, "auto": auto, "high": HIGH_DETAIL}[detail])

    def _grid(self, picture: Picture, options: Options, most: int) -> Grid:
        vision, limits = self._manifest.vision, self._manifest.preprocessing
        token_pixels = (vision.patch * vision.merge) ** 2
        if most * token_pixels < limits.min_pixels:
            needed = -(-limits.min_pixels // token_pixels)
            raise OptionError(f"max_image_tokens is {most}, but this model needs at least {needed}")
        least = (options.min_image_tokens or 0) * token_pixels
        return grid_of(picture, limits, vision, max_pixels=most * token_pixels, min_pixels=least)


def _subject(turns: Sequence[Turn]) -> Picture | None:
    for turn in reversed(turns):
        if shown := [part for part in turn.parts if isinstance(part, Picture)]:
            return shown[0] if len(shown) == 1 else None
    return None


def named(turns: Sequence[Turn]) -> list[Message]:
    """Messages in which pictures have the numbers that Qwen's template gives them (``add_vision_id``) where there are
    several. One that was alone so far stays without: it is in the cache like that.
    """
    messages, seen = [], 0
    for turn in turns:
        alone = seen + pictures_of(turn) < 2
        parts: list[str | PicturePart | SaidPart] = []
        for part in turn.parts:
            if isinstance(part, Picture):
                seen += 1
                parts += [PicturePart()] if alone else [f"Picture {seen}: ", PicturePart()]
            else:
                parts.append(part)
        messages.append(Message(turn.role, tuple(parts), turn.tool_calls))
    return messages


def listed(pictures: Pictures) -> Sequence[PictureSource]:
    """Pictures as a list: a single one becomes a list of one."""
    if isinstance(pictures, list | tuple):
        return pictures
    return [pictures]  # type: ignore[list-item] # a str is a path and a Sequence too
