"""Messages into a prompt: the model folder's chat template, rendered so that user text stays text.

Knows strings and token ids; knows neither pixels nor devices. Two rules keep strangers' text harmless: the template
runs in Jinja2's immutable sandbox, and only control tokens that the *template* wrote become control tokens. What a user
types, or what stands in a tool's description, ``<|im_end|>`` included, is encoded as ordinary characters.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, OptionError
from vlrun.types.turn import GeneratedText, Role, Tool, ToolCall


@dataclass(frozen=True)
class ImagePlaceholder:
    """The place of the next image in a message."""


Part: TypeAlias = str | ImagePlaceholder | GeneratedText


@dataclass(frozen=True)
class Message:
    """One turn: text and places of images, in order; of the assistant also the tools that it called."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Token ids of a rendered conversation; ``slots[i]`` is the index of the first visual token of image i."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]


class ChatTemplate:
    """The chat template and tokenizer of one model folder.

    Raises DamagedModel if either does not parse.
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
        # Every place behind the first letter of a control token's name: cut there, the name is only letters.
        self._inside_names = _any_of(
            f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in longest_first if len(name) > 1
        )

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The conversation as one string, control tokens in letters, ready for the model's answer."""
        return self._render([_plain(message) for message in messages], tools)

    def encode(self, messages: Sequence[Message], image_tokens: Sequence[int], tools: Sequence[Tool] = ()) -> Prompt:
        """Token ids of the conversation; the i-th image takes ``image_tokens[i]`` visual tokens.

        Raises OptionError if the template shows another number of images, or for text that is no valid Unicode.
        """
        ids: list[int] = []
        slots: list[int] = []
        for piece in self._pieces(messages, tools):
            if isinstance(piece, str):
                ids.extend(self.encode_text(piece))
            elif isinstance(piece, GeneratedText):
                ids.extend(piece.ids)
            elif piece != self._image_token:
                ids.append(piece)
            elif len(slots) < len(image_tokens):
                count = image_tokens[len(slots)]
                slots.append(len(ids))
                ids.extend([self._image_token] * count)
            else:
                raise OptionError("the prompt has more places for images than there are images")
        if len(slots) != len(image_tokens):
            raise OptionError(f"the prompt has {len(slots)} places for {len(image_tokens)} images")
        return Prompt(ids=tuple(ids), slots=tuple(slots))

    def encode_text(self, text: str) -> list[int]:
        """Ids of text in which no control token is recognized. Raises OptionError for text that is no valid Unicode."""
        pieces = self._inside_names.split(text)
        try:
            # Not one by one by encode(), which keeps all other threads waiting: for seconds, if a text has a megabyte.
            encoded = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
            return [i for piece in encoded for i in piece.ids]
        except (UnicodeError, TypeError) as error:
            raise OptionError("the text holds characters that are no valid Unicode") from error

    def _pieces(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[str | int | GeneratedText]:
        """Plain text, control tokens and what the model said in turn. Text runs on across the seams of template and
        user, as the reference tokenizes it, so that a word never breaks there.
        """
        text = ""
        for literal, given in self._seams(messages, tools):
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

    def _seams(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[tuple[str, str | GeneratedText]]:
        """The rendered prompt as (template's own letters, what was given) in turn.

        The template sees a random mark instead of each text, which nobody can guess and therefore nobody can forge.
        """
        marks = _Marks()
        marked = [_plain(marks.message(message)) for message in messages]
        described = [_Json(marks.of(_to_json(tool))) for tool in tools]
        # Splitting by a pattern with one group gives literal, index, literal, index, ..., literal.
        pieces = marks.pattern.split(self._render(marked, described))
        yield from (
            (letters, marks.given[int(index)]) for letters, index in zip(pieces[::2], pieces[1::2], strict=False)
        )
        yield pieces[-1], ""

    def _render(self, messages: list[dict[str, object]], tools: Sequence[object]) -> str:
        try:
            return self._template.render(messages=messages, tools=tools or None, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise OptionError("the model's chat template refuses this conversation", error) from error
        except Exception as error:  # a template is a program of somebody else's
            raise DamagedModel(f"the model's chat template fails: {error}") from error


class _Marks:
    """Marks that stand for what was given, while the template is rendered."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(16)
        self.given: list[str | GeneratedText] = []
        self.pattern = re.compile(f"{self._secret}:([0-9]+):")

    def of(self, given: str | GeneratedText) -> str:
        """A mark for it."""
        self.given.append(given)
        return f"{self._secret}:{len(self.given) - 1}:"

    def message(self, message: Message) -> Message:
        """The message with a mark in place of all that was given."""
        parts = tuple(part if isinstance(part, ImagePlaceholder) else self.of(part) for part in message.parts)
        calls = tuple(ToolCall(self.of(call.name), self.of(call.arguments)) for call in message.tool_calls)
        return replace(message, parts=parts, tool_calls=calls)


class _Json(str):
    """JSON already: it is not to be quoted again."""

    __slots__ = ()


def _to_json(value: object) -> str:
    """``tojson`` as transformers defines it for chat templates: letters stay letters, and ``<`` stays ``<``."""
    return value if isinstance(value, _Json) else json.dumps(value, ensure_ascii=False)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model folder. Raises DamagedModel if it does not parse."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise DamagedModel(f"the tokenizer '{path.name}' is damaged: {error}") from error


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches where one of the given does; nowhere if none is given."""
    return re.compile("|".join(patterns) or r"(?!)")


def _plain(message: Message) -> dict[str, object]:
    """A message as chat templates read it: a list of parts only where there is an image."""
    texts = [part.text if isinstance(part, GeneratedText) else part for part in message.parts]
    content = [{"type": "text", "text": text} if isinstance(text, str) else {"type": "image"} for text in texts]
    plain: dict[str, object] = {"role": message.role, "content": content}
    if all(isinstance(text, str) for text in texts):
        plain["content"] = "".join(str(text) for text in texts)
    if message.tool_calls:
        plain["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return plain


def _raise_exception(message: str) -> None:
    """``raise_exception`` as published templates call it."""
    raise jinja2.TemplateError(message)
