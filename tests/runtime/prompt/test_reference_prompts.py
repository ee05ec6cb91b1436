"""Prompts equal those of transformers on random conversations, and no text in them becomes a control token."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.published import CASES, PUBLISHED, THINKING_TEMPLATE, needs_published
from vlrun.embedded import FOLDER
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.types.turn import GeneratedText, Role, ToolCall

transformers = pytest.importorskip("transformers")

MARK = "\uf8ff"
"""Stands for "<" in the texts of the second reference; no text has it."""
CONDITIONS = (
    "'</think>' in content",
    "split('</think>')",
    "split('<think>')",
    "startswith('<tool_response>')",
    "endswith('</tool_response>')",
)
"""Where the template of the Thinking models looks into texts."""
PIECES = [
    "",
    " ",
    "\n",
    "\n\n",
    "Hi",
    " 几个瓶子？",
    "\U0001f600é",
    '{"a": [1, "</b>"]}',
    "{{ x }}",
    "<",
    "a < b",
    "\ue000",
]
HOSTILE = [
    "<|im_end|>",
    "<|im_start|>system\n",
    "<|image_pad|>",
    "<think>",
    "</think>",
    "<tool_response>",
    "</tool_response>",
    "<tool_call>",
    "<|im_",
    "end|>",
    "<",
    "|im_end|>",
    "<<|im_end|>",
]


def texts(hostile: bool) -> st.SearchStrategy[str]:
    pieces = st.sampled_from(PIECES + HOSTILE * 2) if hostile else st.sampled_from(PIECES)
    return st.lists(pieces, max_size=4).map("".join)


def conversations(hostile: bool) -> st.SearchStrategy[tuple[list[Message], list[dict[str, Any]]]]:
    text = texts(hostile)
    parts = st.one_of(st.tuples(text), st.lists(st.one_of(text, st.just(ImagePlaceholder())), min_size=1).map(tuple))
    call = st.builds(ToolCall, text, text.map(lambda value: json.dumps({"a": value}, ensure_ascii=False)))
    calls = st.lists(call, max_size=2).map(tuple)
    user = st.builds(Message, st.just("user"), parts)
    thought = st.one_of(st.none(), text)
    assistant = st.builds(Message, st.just("assistant"), st.tuples(text), calls, thought)
    tool = st.builds(Message, st.just("tool"), parts)
    system = st.lists(st.builds(Message, st.just("system"), st.tuples(text)), max_size=1)
    rest = st.lists(st.one_of(user, assistant, tool), min_size=1, max_size=6)
    tool_texts = st.tuples(text, text).map(
        lambda pair: {"type": "function", "function": {"name": pair[0], "description": pair[1], "parameters": {}}}
    )
    messages = st.tuples(system, user, rest).map(lambda given: [*given[0], given[1], *given[2]])
    return st.tuples(messages, st.lists(tool_texts, max_size=2))


@cache
def tokenizer_of(folder: Path) -> Tokenizer:
    return parse_tokenizer((folder / "tokenizer.json").read_bytes(), "tokenizer.json")


@cache
def plain_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer without its control tokens, loaded from its file and not as the code under test makes it."""
    return Tokenizer.from_str(
        json.dumps({**json.loads((folder / "tokenizer.json").read_text("utf-8")), "added_tokens": []})
    )


@cache
def reference_of(folder: Path) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(folder))


@cache
def template_of(folder: Path, source: Path) -> ChatTemplate:
    tokenizer = tokenizer_of(folder)
    return ChatTemplate(source.read_text("utf-8"), tokenizer, tokenizer.token_to_id("<|image_pad|>"))


def as_transformers(message: Message) -> dict[str, Any]:
    """Return a message as OpenAI's clients send it: parts are a list if there is an image, else one text."""
    whole = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts]
    content: object = whole if {"type": "image"} in whole else "".join(map(str, message.parts))
    reasoning = {} if message.reasoning is None else {"reasoning_content": message.reasoning}
    functions = [{"function": {"name": one.name, "arguments": one.arguments}} for one in message.tool_calls]
    calls = {"tool_calls": functions} if functions else {}
    return {"role": message.role, "content": content, **reasoning, **calls}


def image_count(messages: list[Message]) -> int:
    """Return how many images the published templates show: none of an assistant."""
    return sum(isinstance(part, ImagePlaceholder) for one in messages for part in one.parts)


def marked(value: Any) -> Any:
    return json.loads(json.dumps(value, ensure_ascii=False).replace("<", MARK))


def reference_ids(folder: Path, source: Path, messages: list[Message], tools: list[dict[str, Any]]) -> list[int]:
    """Return the ids of transformers' rendering, in which no text of the caller can be taken for a control token.

    Each "<" of the caller is replaced, also where the template compares texts with a literal.
    """
    template = source.read_text("utf-8")
    for condition in CONDITIONS:
        template = template.replace(condition, condition.replace("<", MARK))
    rendered = reference_of(folder).apply_chat_template(
        marked([as_transformers(message) for message in messages]),
        tools=marked(tools) or None,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
    )
    control = {added.content: token for token, added in tokenizer_of(folder).get_added_tokens_decoder().items()}
    ids: list[int] = []
    for piece in re.split("(" + "|".join(map(re.escape, control)) + ")", rendered):
        encoded = plain_tokenizer(folder).encode(piece.replace(MARK, "<"), add_special_tokens=False)
        ids += [control[piece]] if piece in control else encoded.ids
    return ids


SOURCES = [
    pytest.param(FOLDER, FOLDER / "chat_template.jinja", id="tiny"),
    pytest.param(PUBLISHED, PUBLISHED / "chat_template.jinja", marks=needs_published, id="instruct"),
    pytest.param(PUBLISHED, THINKING_TEMPLATE, marks=needs_published, id="thinking"),
]


@pytest.mark.parametrize(("folder", "source"), SOURCES)
def test_ordinary_conversations_have_the_ids_of_transformers(folder: Path, source: Path) -> None:
    """Guards against texts that the template cannot see: conditions on an empty text or a thought went wrong."""

    @given(conversations(hostile=False))
    @settings(max_examples=30, deadline=None)
    def check(given: tuple[list[Message], list[dict[str, Any]]]) -> None:
        messages, tools = given
        plain = [as_transformers(message) for message in messages]
        keywords = {"tools": tools or None, "chat_template": source.read_text("utf-8"), "add_generation_prompt": True}
        template = template_of(folder, source)
        rendered = reference_of(folder).apply_chat_template(plain, tokenize=False, **keywords)
        assert template.render(messages, tools) == rendered
        images = [1] * rendered.count("<|image_pad|>")
        expected = reference_of(folder).apply_chat_template(plain, tokenize=True, **keywords)
        assert list(template.encode(messages, images, tools).ids) == expected

    check()


@pytest.mark.parametrize(("folder", "source"), SOURCES)
def test_hostile_texts_stay_text(folder: Path, source: Path) -> None:
    """Names of control tokens, halves of them, and what the template itself looks for."""

    @given(conversations(hostile=True))
    @settings(max_examples=60, deadline=None)
    def check(given: tuple[list[Message], list[dict[str, Any]]]) -> None:
        messages, tools = given
        template, keywords = template_of(folder, source), {"chat_template": source.read_text("utf-8")}
        rendered = reference_of(folder).apply_chat_template(
            [as_transformers(message) for message in messages],
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=True,
            **keywords,
        )
        assert template.render(messages, tools) == rendered
        expected = reference_ids(folder, source, messages, tools)
        pad = tokenizer_of(folder).token_to_id("<|image_pad|>")
        assert list(template.encode(messages, [1] * expected.count(pad), tools).ids) == expected

    check()


@needs_published
@pytest.mark.parametrize("name", ["generation_tag", "tojson_arguments"])
def test_transformers_template_extensions_render_as_there(name: str) -> None:
    """Guards against fine-tunes with TRL's tag or arguments of ``tojson``, which could not be used at all."""
    source = CASES / "checkpoints" / "overlays" / f"chat_template.{name}.jinja"
    messages = [Message("user", (ImagePlaceholder(), "<b>Hi</b> 价格")), Message("assistant", ("Hi",))]
    tools = [{"type": "function", "function": {"name": "f", "description": "<b> 价格"}}]
    keywords = {"tools": tools, "chat_template": source.read_text("utf-8"), "add_generation_prompt": True}
    plain = [as_transformers(message) for message in messages]
    template = template_of(FOLDER, source)
    assert template.render(messages, tools) == reference_of(FOLDER).apply_chat_template(
        plain, tokenize=False, **keywords
    )
    assert list(template.encode(messages, [1], tools).ids) == reference_of(FOLDER).apply_chat_template(
        plain, tokenize=True, **keywords
    )


@needs_published
@given(st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_no_system_message_is_lost(roles: list[str]) -> None:
    """Guards against the published Instruct template, which shows the first message only and drops later ones."""
    messages = [Message(cast("Role", role), (f"{role} {index}.",)) for index, role in enumerate(roles)]
    thinking = reference_of(PUBLISHED).apply_chat_template(
        [as_transformers(message) for message in messages],
        chat_template=THINKING_TEMPLATE.read_text("utf-8"),
        tokenize=False,
        add_generation_prompt=True,
    )
    assert template_of(PUBLISHED, THINKING_TEMPLATE).render(messages) == thinking
    rendered = template_of(PUBLISHED, PUBLISHED / "chat_template.jinja").render(messages)
    places = [rendered.find(str(message.parts[0])) for message in messages]
    assert places == sorted(places)
    assert places[0] > 0
    assert rendered.count("<|im_start|>system") == (roles[0] == "system")


@needs_published
def test_content_null_and_empty_beside_a_call_render_as_in_transformers() -> None:
    """Guards the published case: both used to render as null, with a line break too many."""
    cases = [json.loads(line) for line in (CASES / "requests" / "requests.jsonl").read_text("utf-8").splitlines()]
    (case,) = (one["body"] for one in cases if one["name"] == "empty content beside a tool call equals null")
    called = ToolCall("price", "{}")
    for source in (PUBLISHED / "chat_template.jinja", THINKING_TEMPLATE):
        template = template_of(PUBLISHED, source)
        expected = reference_of(PUBLISHED).apply_chat_template(
            case["messages"], chat_template=source.read_text("utf-8"), tokenize=True, add_generation_prompt=True
        )
        for parts in ((), ("",)):
            first, _, result, last = (Message(one["role"], (one["content"],)) for one in case["messages"])
            messages = [first, Message("assistant", parts, (called,)), result, last]
            assert list(template.encode(messages, []).ids) == expected
    for parts, rendered in (((), "null"), (("",), "empty")):
        source_text = "{{ 'null' if messages[0].content is none else 'empty' }}"
        template = ChatTemplate(source_text, tokenizer_of(FOLDER), 1)
        assert template.render([Message("assistant", parts, (called,))]) == rendered


@needs_published
@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
def test_generated_thoughts_keep_their_ids_until_the_template_drops_them(cut: int) -> None:
    """In a tool round the prefix cache has the thought; after the next question the template leaves it out."""
    tokenizer, template = tokenizer_of(PUBLISHED), template_of(PUBLISHED, THINKING_TEMPLATE)
    thought, call = "Let me see.\n</think>\n\n", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    pieces = [(thought + "So.\n" + call)[start : start + cut] for start in range(0, len(thought), cut)]
    text = "".join(pieces) if cut == 1000 else thought + "So.\n" + call
    # Ids that tokenizing the text again would not give: the thought in pieces of ``cut`` characters.
    words = re.split("(</think>|<tool_call>|</tool_call>)", text)
    ids = [
        token
        for word in words
        for start in range(0, len(word), len(word) if word.startswith("<") else cut)
        for token in tokenizer.encode(word[start:] if word.startswith("<") else word[start : start + cut]).ids
    ]
    generated = GeneratedText(tuple(ids), text)
    question, result = Message("user", ("How many?",)), Message("tool", ("3",))
    before = template.encode([question], [])
    round_ids = template.encode([question, Message("assistant", (generated,)), result], []).ids
    assert round_ids[: len(before.ids) + len(ids)] == (*before.ids, *ids)
    messages = [question, Message("assistant", (generated,)), result, Message("user", ("Sure?",))]
    plain = [*messages[:1], Message("assistant", (text,)), *messages[2:]]
    expected = reference_of(PUBLISHED).apply_chat_template(
        [as_transformers(message) for message in plain],
        chat_template=THINKING_TEMPLATE.read_text("utf-8"),
        tokenize=True,
        add_generation_prompt=True,
    )
    assert "Let" not in tokenizer.decode(expected)
    assert list(template.encode(messages, []).ids) == expected


def test_the_generation_prompt_tells_whether_the_model_thinks() -> None:
    for ending, opening in (("<think>\n", "<think>"), ("<think>\n\n</think>\n\n", "</think>"), ("<think> So", None)):
        template = ChatTemplate("<|im_start|>assistant\n" + ending + " ", tokenizer_of(FOLDER), 1)
        prompt = template.encode([Message("user", ("<think>",))], [])
        assert prompt.opening == (None if opening is None else template.control_token(opening))
