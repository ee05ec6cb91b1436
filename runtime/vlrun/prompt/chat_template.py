"""Renders and tokenizes messages with the model's chat template. Text and templates are untrusted.

The template runs in Jinja2's immutable sandbox, and only the template itself can write control tokens. The name of a
control token in user text or in a tool's description is encoded as ordinary text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, OptionError
from vlrun.types.turn import GeneratedText, Role, Tool, ToolCall


@dataclass(frozen=True)
class ImagePlaceholder:
    """The position of an image in a message."""


Part: TypeAlias = str | ImagePlaceholder | GeneratedText


@dataclass(frozen=True)
class Message:
    """A turn with placeholders for its images."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Token ids of a conversation. ``image_offsets`` has the index of the first visual token of each image."""

    ids: tuple[int, ...]
    image_offsets: tuple[int, ...]


class ChatTemplate:
    """The chat template and tokenizer of a model folder.

    Args:
        source: The Jinja2 template.
        tokenizer: The model's tokenizer.
        image_token: Id of the placeholder of a visual token.

    Raises:
        DamagedModel: The template does not parse.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, image_token: int) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise_exception
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise DamagedModel(f"the model's chat template is damaged: {error}") from error
        self._tokenizer = tokenizer
        self._image_token = image_token
        self._control = {
            added.content: token for token, added in tokenizer.get_added_tokens_decoder().items() if added.content
        }
        longest_first = sorted(self._control, key=len, reverse=True)
        self._control_pattern = _any_of(re.escape(name) for name in longest_first)
        # Positions after the first character of a control token's name: text that is split there has no control tokens.
        self._inside_names = _any_of(
            f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in longest_first if len(name) > 1
        )

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the conversation as text with the names of control tokens, up to the model's answer."""
        return self._render([_as_dict(message) for message in messages], tools)

    def encode(self, messages: Sequence[Message], image_tokens: Sequence[int], tools: Sequence[Tool] = ()) -> Prompt:
        """Return the prompt, in which image i has ``image_tokens[i]`` visual tokens.

        Raises:
            OptionError: The template renders a different number of images, or the text is not valid Unicode.
        """
        ids: list[int] = []
        offsets: list[int] = []
        for piece in self._segments(messages, tools):
            if isinstance(piece, str):
                ids.extend(self.encode_text(piece))
            elif isinstance(piece, GeneratedText):
                ids.extend(piece.ids)
            elif piece != self._image_token:
                ids.append(piece)
            elif len(offsets) < len(image_tokens):
                count = image_tokens[len(offsets)]
                offsets.append(len(ids))
                ids.extend([self._image_token] * count)
            else:
                raise OptionError("the prompt has more image placeholders than images")
        if len(offsets) != len(image_tokens):
            raise OptionError(f"the prompt has {len(offsets)} image placeholders for {len(image_tokens)} images")
        return Prompt(ids=tuple(ids), image_offsets=tuple(offsets))

    def encode_text(self, text: str) -> list[int]:
        """Tokenize text without recognizing control tokens. Raises OptionError for invalid Unicode."""
        pieces = self._inside_names.split(text)
        try:
            # encode() of each piece would hold the GIL: seconds for a megabyte of text.
            encoded = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
            return [i for piece in encoded for i in piece.ids]
        except (UnicodeError, TypeError) as error:
            raise OptionError("the text contains characters that are not valid Unicode") from error

    def _segments(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[str | int | GeneratedText]:
        """Yield text, control tokens and generated text in order.

        Text of the template and of the user is joined, so that it is tokenized as in the reference implementation.
        """
        text = ""
        for literal, given in self._alternating(messages, tools):
            cursor = 0
            for match in self._control_pattern.finditer(literal):
                if text := text + literal[cursor : match.start()]:
                    yield text
                yield self._control[match.group()]
                text, cursor = "", match.end()
            text += literal[cursor:]
            if isinstance(given, str):
                text += given
                continue
            if text:
                yield text
            yield given
            text = ""
        if text:
            yield text

    def _alternating(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> Iterator[tuple[str, str | GeneratedText]]:
        """Yield pairs of the template's text and the given text that follows it.

        The template renders a random placeholder, which cannot be guessed, in place of each given text.
        """
        secret = secrets.token_hex(16)
        given: list[str | GeneratedText] = []

        def hide(text: str | GeneratedText) -> str:
            given.append(text)
            return f"{secret}:{len(given) - 1}:"

        hidden = []
        for message in messages:
            parts = tuple(part if isinstance(part, ImagePlaceholder) else hide(part) for part in message.parts)
            calls = tuple(ToolCall(hide(call.name), hide(call.arguments)) for call in message.tool_calls)
            hidden.append(_as_dict(Message(message.role, parts, calls)))
        descriptions = [_Json(hide(_to_json(tool))) for tool in tools]
        # A pattern with one group splits into literal, index, literal, index, ..., literal.
        pieces = re.split(f"{secret}:([0-9]+):", self._render(hidden, descriptions))
        for literal, index in zip(pieces[::2], pieces[1::2], strict=False):
            yield literal, given[int(index)]
        yield pieces[-1], ""

    def _render(self, messages: list[dict[str, object]], tools: Sequence[object]) -> str:
        try:
            return self._template.render(messages=messages, tools=tools or None, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise OptionError("the model's chat template refuses this conversation", error) from error
        except Exception as error:  # a template can fail in any way
            raise DamagedModel(f"the model's chat template fails: {error}") from error


class _Json(str):
    """Text that is already JSON and must not be quoted again."""

    __slots__ = ()


def _to_json(value: object) -> str:
    """``tojson`` as in transformers: without ASCII and HTML escapes."""
    return value if isinstance(value, _Json) else json.dumps(value, ensure_ascii=False)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of the patterns, or nothing if there are none."""
    return re.compile("|".join(patterns) or r"(?!)")


def _as_dict(message: Message) -> dict[str, object]:
    """Return a message as chat templates expect it: a list of parts only if there is an image."""
    texts = [part.text if isinstance(part, GeneratedText) else part for part in message.parts]
    content = [{"type": "text", "text": text} if isinstance(text, str) else {"type": "image"} for text in texts]
    rendered: dict[str, object] = {"role": message.role, "content": content}
    if all(isinstance(text, str) for text in texts):
        rendered["content"] = "".join(str(text) for text in texts)
    if message.tool_calls:
        rendered["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return rendered


def _raise_exception(message: str) -> None:
    """Chat templates call this function for invalid conversations."""
    raise jinja2.TemplateError(message)
