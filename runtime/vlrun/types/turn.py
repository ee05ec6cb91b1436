"""Conversation turns, tools and tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from vlrun.errors import OptionError
from vlrun.types.options import Detail

if TYPE_CHECKING:
    from vlrun.media.image import Image

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


Tool: TypeAlias = Mapping[str, object]
"""A function that the model may call, as OpenAI describes it: ``{"type": "function", "function": {"name": ...}}``."""


@dataclass(frozen=True)
class GeneratedText:
    """What the model itself said, token by token: encoded again, its text could become other tokens, whose past is not
    in the cache.
    """

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called. ``arguments``: a JSON object, as text letter for letter."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: texts and images in order (open a file with ``vlrun.open_image``), what the model
    said token by token, and the tools that it called. ``details``: of each image, where they are not the options'.
    """

    role: Role
    parts: tuple[str | Image | GeneratedText, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    details: tuple[Detail, ...] = ()


Mode: TypeAlias = Literal["auto", "required", "none"]


@dataclass(frozen=True)
class ToolChoice:
    """Whether the model may call tools (``auto``), must (``required``, the one called ``name`` if given), or must not
    (``none``); and whether it may call several in one answer.
    """

    mode: Mode = "auto"
    name: str | None = None
    parallel: bool = True

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise OptionError(f"the choice of tools must be one of {', '.join(get_args(Mode))}")
