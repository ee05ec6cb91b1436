"""Renders and tokenizes messages with the model's chat template. Text and templates are untrusted.

The template sees the true texts, and only the template itself can write control tokens: the name of a control token in
user text or in a tool's description is encoded as ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TypeAlias

import jinja2
from jinja2.exceptions import SecurityError
from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, OptionError
from vlrun.prompt.spans import GeneratedTexts, SpanFinder
from vlrun.prompt.template_environment import TemplateEnvironment
from vlrun.prompt.template_limits import MAX_TEMPLATE, TemplateLimitError
from vlrun.prompt.text_encoder import TextEncoder, check_length
from vlrun.prompt.traced_text import TEMPLATE, TracedText, joined, plain
from vlrun.prompt.visual_tokens import ClipTokens, VisualTokens
from vlrun.types.turn import GeneratedText, Role, Tool, ToolCall


@dataclass(frozen=True)
class ImagePlaceholder:
    """The position of an image in a message."""


@dataclass(frozen=True)
class VideoPlaceholder:
    """The position of a video in a message."""


Part: TypeAlias = str | ImagePlaceholder | VideoPlaceholder | GeneratedText

SYSTEM_SEPARATOR = "\n\n"
_PROBE = "a system message after the first turn"


@dataclass(frozen=True)
class Message:
    """A turn with placeholders for its images."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None


@dataclass(frozen=True)
class Prompt:
    """Token ids of a conversation.

    Attributes:
        image_offsets: Index of the first visual token of each image, and of each pair of frames of a video.
        opening: The last control token, if only white space follows: it opens what the model writes next.
    """

    ids: tuple[int, ...]
    image_offsets: tuple[int, ...]
    opening: int | None = None


class ChatTemplate:
    """The chat template and tokenizer of a model folder.

    Args:
        source: The Jinja2 template.
        tokenizer: The model's tokenizer.
        image_token: Id of the placeholder of a visual token.
        video_token: Id of the placeholder of a visual token of a video; None for a model without videos.

    Raises:
        DamagedModel: The template does not parse, or is too large.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, image_token: int, video_token: int | None = None) -> None:
        if len(source) > MAX_TEMPLATE:
            raise DamagedModel(f"the model's chat template has more than {MAX_TEMPLATE:,} characters, the limit")
        self._source_length = len(source)
        self._image_token = image_token
        self._video_token = video_token
        self._control = {
            added.content: token for token, added in tokenizer.get_added_tokens_decoder().items() if added.content
        }
        longest_first = sorted(self._control, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._spans = SpanFinder(self._control, pattern, tokenizer)
        self._encoder = TextEncoder(tokenizer)
        self._environment = TemplateEnvironment(pattern)
        try:
            self._template = self._environment.from_string(source)
        except Exception as error:  # Python compiles what Jinja2 makes of the template
            raise DamagedModel(f"the model's chat template is damaged: {error}") from error

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the conversation as text with the names of control tokens, up to the model's answer."""
        return plain(self._render(messages, tools, GeneratedTexts()))

    def encode(
        self, messages: Sequence[Message], image_tokens: Sequence[int | ClipTokens], tools: Sequence[Tool] = ()
    ) -> Prompt:
        """Return the prompt, in which image or video i has ``image_tokens[i]`` visual tokens.

        Text of the template and of the caller is joined, so that it is tokenized as in the reference implementation.

        Raises:
            OptionError: The template renders a different number of images, or the text is too long or not Unicode.
            DamagedModel: The template fails or exceeds its limits.
        """
        generated = GeneratedTexts()
        return self._encode(self._render(messages, tools, generated), generated, image_tokens)

    def encode_raw(self, text: str) -> Prompt:
        """Return the prompt of a text as it is, in which the names of control tokens are control tokens.

        Raises:
            OptionError: The text has the placeholder of an image, is too long, or is not Unicode.
        """
        check_length(len(text))
        return self._encode(TracedText(text, TEMPLATE), GeneratedTexts(), ())

    def _encode(self, rendered: str, generated: GeneratedTexts, image_tokens: Sequence[int | ClipTokens]) -> Prompt:
        spans, text = self._spans.find(rendered, generated), plain(rendered)
        starts, ends = [*(span.start for span in spans), len(text)], [0, *(span.end for span in spans)]
        texts = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        visual = VisualTokens(self._image_token, self._video_token, image_tokens)
        pieces = visual.expand(spans, texts)
        ids, offsets = list[int](), list[int]()
        for piece, encoded in zip(pieces, self._encoder.encode([piece.text for piece in pieces]), strict=True):
            if piece.visual_at is not None:
                offsets.append(len(ids) + piece.visual_at)
            ids.extend(piece.ids)
            ids.extend(encoded)
        opening = spans[-1].ids[-1] if spans and not texts[-1].strip() else None
        return Prompt(tuple(ids), tuple(offsets), opening)

    def encode_text(self, text: str) -> list[int]:
        """Tokenize text without recognizing control tokens. Raises OptionError for invalid Unicode or too much text."""
        return self._encoder.encode([text])[0]

    def control_token(self, name: str) -> int | None:
        """Return the id of a control token; None if the tokenizer has none of this name."""
        return self._control.get(name)

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool], generated: GeneratedTexts) -> str:
        """Render a conversation. A message without parts has the content null, as OpenAI's clients send it.

        Templates that fail on null, as the published ones do, get an empty text.
        """
        if any(message.role == "system" for message in messages[1:]) and not self._shows_all_system_messages:
            messages = _with_one_system_message(messages)
        characters = sum(len(_text_of(part)) for message in messages for part in message.parts)
        check_length(characters)
        try:
            characters += len(json.dumps(tools))
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionError(f"the tools cannot be written as JSON: {error}") from None
        characters += sum(len(call.arguments) for message in messages for call in message.tool_calls)
        whole = [_as_dict(message, generated) for message in messages]
        with self._environment.rendering(self._source_length + characters):
            try:
                return self._rendered(whole, tools)
            except DamagedModel:
                if all(message["content"] is not None for message in whole):
                    raise
            return self._rendered(
                [{**one, "content": "" if one["content"] is None else one["content"]} for one in whole], tools
            )

    @cached_property
    def _shows_all_system_messages(self) -> bool:
        """Whether the template shows system messages after the first turn; the published Instruct one drops them."""
        turns = [Message("user", ("Hi",)), Message("system", (_PROBE,)), Message("user", ("Hi",))]
        try:
            with self._environment.rendering(self._source_length + len(_PROBE)):
                return _PROBE in self._rendered([_as_dict(turn, GeneratedTexts()) for turn in turns], ())
        except (OptionError, DamagedModel):
            return False

    def _rendered(self, messages: list[dict[str, object]], tools: Sequence[Tool]) -> str:
        try:
            return self._template.render(
                messages=messages, tools=tools or None, documents=None, add_generation_prompt=True
            )
        except (TemplateLimitError, SecurityError) as error:
            raise DamagedModel(f"the model's chat template cannot be used: {error}") from error
        except jinja2.TemplateError as error:
            raise OptionError("the model's chat template refuses this conversation", error) from error
        except Exception as error:  # a template can fail in any way
            raise DamagedModel(f"the model's chat template fails: {error}") from error


def _with_one_system_message(messages: Sequence[Message]) -> list[Message]:
    """Join the system messages at the beginning. Later ones keep their place, as messages of the user."""
    first = list(takewhile(lambda message: message.role == "system", messages))
    parts = [part for message in first for part in (SYSTEM_SEPARATOR, *message.parts)]
    joined_first = [Message("system", tuple(parts[1:]))] if first else []
    return [
        *joined_first,
        *(replace(one, role="user") if one.role == "system" else one for one in messages[len(first) :]),
    ]


def _as_dict(message: Message, generated: GeneratedTexts) -> dict[str, object]:
    """Return a message as chat templates expect it: a list of parts only if there is an image or a video."""
    texts: list[str | ImagePlaceholder | VideoPlaceholder] = []
    reasoning = message.reasoning
    for part in message.parts:
        if isinstance(part, GeneratedText):
            whole = generated.add(part)
            start = part.text.find(part.reasoning)
            reasoning = whole[start : start + len(part.reasoning)] if part.reasoning else reasoning
            texts.append(whole[part.answer_start :])
        else:
            texts.append(part)
    content: object = [
        {"type": "text", "text": text}
        if isinstance(text, str)
        else {"type": "video" if isinstance(text, VideoPlaceholder) else "image"}
        for text in texts
    ]
    if not texts:
        content = None if message.tool_calls else ""
    elif all(isinstance(text, str) for text in texts):
        content = joined([text for text in texts if isinstance(text, str)])
    rendered: dict[str, object] = {"role": message.role, "content": content}
    if reasoning is not None:
        rendered["reasoning_content"] = reasoning
    if message.tool_calls:
        rendered["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return rendered


def _text_of(part: Part) -> str:
    if isinstance(part, GeneratedText):
        return part.text
    return part if isinstance(part, str) else ""
