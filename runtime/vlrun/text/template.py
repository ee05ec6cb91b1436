"""Messages into a prompt: the model folder's chat template, rendered so that user text stays text.

Knows strings and token ids; knows neither pixels nor devices. Two rules keep strangers' text harmless: the template
runs in Jinja2's immutable sandbox, and only control tokens that the *template* wrote become control tokens. What a user
types, ``<|im_end|>`` included, is encoded as ordinary characters.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, OptionError

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class PicturePart:
    """The place of the next picture in a message."""


Part: TypeAlias = str | PicturePart


@dataclass(frozen=True)
class Message:
    """One turn: text and places of pictures, in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Prompt:
    """Token ids of a rendered conversation; ``slots[i]`` is the index of the first visual token of picture i."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]


class ChatTemplate:
    """The chat template and tokenizer of one model folder.

    Raises DamagedModel if either does not parse.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, image_token: int) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise_exception
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

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as one string, control tokens in letters, ready for the model's answer."""
        return self._render([_plain(message) for message in messages])

    def encode(self, messages: Sequence[Message], picture_tokens: Sequence[int]) -> Prompt:
        """Token ids of the conversation; the i-th picture takes ``picture_tokens[i]`` visual tokens.

        Raises OptionError if the template shows another number of pictures, or for text that is no valid Unicode.
        """
        ids: list[int] = []
        slots: list[int] = []
        for piece in self._pieces(messages):
            if isinstance(piece, str):
                ids.extend(self.encode_text(piece))
            elif piece != self._image_token:
                ids.append(piece)
            elif len(slots) < len(picture_tokens):
                count = picture_tokens[len(slots)]
                slots.append(len(ids))
                ids.extend([self._image_token] * count)
            else:
                raise OptionError("the prompt has more places for pictures than there are pictures")
        if len(slots) != len(picture_tokens):
            raise OptionError(f"the prompt has {len(slots)} places for {len(picture_tokens)} pictures")
        return Prompt(ids=tuple(ids), slots=tuple(slots))

    def encode_text(self, text: str) -> list[int]:
        """Ids of text in which no control token is recognized. Raises OptionError for text that is no valid Unicode."""
        pieces = self._inside_names.split(text)
        try:
            return [i for piece in pieces for i in self._tokenizer.encode(piece, add_special_tokens=False).ids]
        except (UnicodeError, TypeError) as error:
            raise OptionError("the text holds characters that are no valid Unicode") from error

    def _pieces(self, messages: Sequence[Message]) -> Iterator[str | int]:
        """Plain text and control tokens in turn. Text runs on across the seams of template and user, as the reference
        tokenizes it, so that a word never breaks there.
        """
        text = ""
        for literal, user_text in self._seams(messages):
            cursor = 0
            for match in self._control_pattern.finditer(literal):
                if text := text + literal[cursor : match.start()]:
                    yield text
                yield self._control[match.group()]
                text, cursor = "", match.end()
            text += literal[cursor:] + user_text
        if text:
            yield text

    def _seams(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        """The rendered prompt as (template's own letters, user's letters) in turn.

        The template sees a random mark instead of each text, which nobody can guess and therefore nobody can forge.
        """
        secret = secrets.token_hex(16)
        texts: list[str] = []
        marked = [_plain(_mark(message, secret, texts)) for message in messages]
        # Splitting by a pattern with one group gives literal, index, literal, index, ..., literal.
        pieces = re.split(f"{secret}:([0-9]+):", self._render(marked))
        yield from ((literal, texts[int(index)]) for literal, index in zip(pieces[::2], pieces[1::2], strict=False))
        yield pieces[-1], ""

    def _render(self, messages: list[dict[str, object]]) -> str:
        try:
            return self._template.render(messages=messages, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise OptionError(f"the model's chat template refuses this conversation: {error}") from error
        except Exception as error:  # a template is a program of somebody else's
            raise DamagedModel(f"the model's chat template fails: {error}") from error


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model folder. Raises DamagedModel if it does not parse."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise DamagedModel(f"the tokenizer '{path.name}' is damaged: {error}") from error


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches where one of the given does; nowhere if none is given."""
    return re.compile("|".join(patterns) or r"(?!)")


def _mark(message: Message, secret: str, texts: list[str]) -> Message:
    """The message with each text replaced by a mark and put into ``texts``."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, str):
            parts.append(f"{secret}:{len(texts)}:")
            texts.append(part)
        else:
            parts.append(part)
    return replace(message, parts=tuple(parts))


def _plain(message: Message) -> dict[str, object]:
    """A message as chat templates read it: a list of parts only where there is a picture."""
    if all(isinstance(part, str) for part in message.parts):
        return {"role": message.role, "content": "".join(str(part) for part in message.parts)}
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts]
    return {"role": message.role, "content": content}


def _raise_exception(message: str) -> None:
    """``raise_exception`` as published templates call it."""
    raise jinja2.TemplateError(message)
