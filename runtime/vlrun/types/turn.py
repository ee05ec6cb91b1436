"""Conversation turns, tools and tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from vlrun.errors import OptionError
from vlrun.types.options import Detail

if TYPE_CHECKING:
    from vlrun.media.image import Image

MAX_TOOLS = 128
"""Per request."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

Tool: TypeAlias = Mapping[str, object]
"""A function that the model may call, in OpenAI's format: ``{"type": "function", "function": {"name": ...}}``."""


@dataclass(frozen=True)
class GeneratedText:
    """Generated text with its tokens: tokenizing the text again may give tokens that differ from the cached ones."""

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class ToolCall:
    """A function call by the model. ``arguments`` is a JSON object, exactly as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        parts: Texts and images in order; open a file with ``vlrun.open_image``.
        tool_calls: The calls of an assistant's turn.
        details: The detail of each image; empty to use that of the options.
    """

    role: Role
    parts: tuple[str | Image | GeneratedText, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    details: tuple[Detail, ...] = ()


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
        if self.mode not in get_args(Mode):
            raise OptionError(f"the tool choice must be one of {', '.join(get_args(Mode))}")
