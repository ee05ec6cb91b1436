"""Conversation turns, tools and tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, flag, instance, mapping, one_of, optional, text, tuple_of
from vlrun.types.options import Detail

if TYPE_CHECKING:
    from vlrun.media.clip import Clip
    from vlrun.media.image import Image

MAX_TOOLS = 128
"""Per request."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

Tool: TypeAlias = Mapping[str, object]
"""A function that the model may call, in OpenAI's format: ``{"type": "function", "function": {"name": ...}}``."""


@dataclass(frozen=True)
class GeneratedText:
    """Generated text with its tokens: tokenizing the text again may give tokens that differ from the cached ones.

    Attributes:
        ids: Token ids of ``text``.
        text: All that was generated.
        reasoning: The part of ``text`` that is the reasoning.
        answer_start: Where the answer begins in ``text``, after the reasoning and its control tokens.
    """

    ids: tuple[int, ...]
    text: str
    reasoning: str = ""
    answer_start: int = 0

    @property
    def answer(self) -> str:
        """The text without the reasoning."""
        return self.text[self.answer_start :]


@dataclass(frozen=True)
class ToolCall:
    """A function call by the model. ``arguments`` is a JSON object, exactly as the model wrote it."""

    name: str
    arguments: str

    def __post_init__(self) -> None:
        check_fields(self, {"name": text, "arguments": text})


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        parts: Texts, images and videos in order; open a file with ``vlrun.open_image`` or ``vlrun.open_video``.
        tool_calls: The calls of an assistant's turn.
        details: The detail of each image and video; empty to use that of the options.
        reasoning: The reasoning of an assistant's turn, if it is known and not in a `GeneratedText`.
    """

    role: Role
    parts: tuple[str | Image | Clip | GeneratedText, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    details: tuple[Detail, ...] = ()
    reasoning: str | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "role": one_of(get_args(Role)),
                "parts": tuple_of(_check_part, "texts and images"),
                "tool_calls": tuple_of(instance(ToolCall), "tool calls"),
                "details": tuple_of(one_of(get_args(Detail)), "details"),
                "reasoning": optional(text),
            },
        )
        if self.details and len(self.details) != sum(not isinstance(part, str | GeneratedText) for part in self.parts):
            raise OptionError("details must have one entry for each image of the turn")


def system_turns(system: str | None) -> tuple[Turn, ...]:
    """Return the turn of a system prompt, if there is one, for the begin of a conversation."""
    checked = optional(text)("system", system)
    return (Turn("system", (checked,)),) if checked else ()


def check_conversation(turns: object, tools: object) -> tuple[tuple[Turn, ...], tuple[Tool, ...]]:
    """Return turns and tools as tuples. Raises OptionError for members of other types, and without turns."""
    checked = tuple_of(instance(Turn), "turns")("turns", turns)
    if not checked:
        raise OptionError("turns must have at least one turn")
    return checked, tuple_of(mapping, "mappings")("tools", tools)


def _check_part(name: str, value: object) -> str | Image | Clip | GeneratedText:
    if isinstance(value, str | GeneratedText):
        return value
    # No isinstance: the engine imports this module and must not import Pillow.
    if not (hasattr(value, "to_original") or hasattr(value, "pairs")):
        raise OptionError(
            f"{name} must be a text, an image of vlrun.open_image or a clip of vlrun.open_video, "
            f"not {type(value).__name__}"
        )
    return cast("Image | Clip", value)


Mode: TypeAlias = Literal["auto", "required", "none"]


@dataclass(frozen=True)
class ToolChoice:
    """Whether the model calls tools.

    Attributes:
        mode: The model may (``auto``), must (``required``) or must not (``none``) call tools.
        name: The tool of a required call; None for any.
        parallel: Whether one answer may contain several calls.
    """

    mode: Mode = "auto"
    name: str | None = None
    parallel: bool = True

    def __post_init__(self) -> None:
        check_fields(self, {"mode": one_of(get_args(Mode)), "name": optional(text), "parallel": flag})
