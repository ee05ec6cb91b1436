"""The tiny model's tokenizer and chat template."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from tests.published import PUBLISHED, needs_published
from training import vocabulary
from training.vocabulary import CHAT_TEMPLATE, PLAIN_ADDED, SPECIAL, VOCABULARY, train_tokenizer

TOOL = {"type": "function", "function": {"name": "stock", "description": "货", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "stock", "arguments": {"kind": "bottle", "名": "瓶"}}}
IMAGE, VIDEO = {"type": "image"}, {"type": "video"}

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "user": {"messages": [{"role": "user", "content": "Hi"}]},
    "system": {"messages": [{"role": "system", "content": " Be short. "}, {"role": "user", "content": "Hi\n"}]},
    "system in parts": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": " short."}]},
            {"role": "user", "content": "Hi"},
        ]
    },
    "images": {
        "messages": [
            {"role": "user", "content": [IMAGE, {"type": "text", "text": "and"}, {"image": "a.png"}, {"text": "?"}]},
            {"role": "assistant", "content": "Six."},
            {"role": "user", "content": [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": "几个？"}]},
        ]
    },
    "numbered": {
        "messages": [{"role": "user", "content": [IMAGE, VIDEO, IMAGE, {"type": "text", "text": "?"}]}],
        "add_vision_id": True,
    },
    "video": {"messages": [{"role": "user", "content": [VIDEO, {"video": "a.mp4"}, {"type": "text", "text": "?"}]}]},
    "tools": {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL, TOOL]},
    "tools and system": {
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
        "tools": [TOOL],
    },
    "calls": {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CALL["function"]]},
            {"role": "tool", "content": "6"},
            {"role": "tool", "content": [{"type": "text", "text": "7"}, IMAGE]},
            {"role": "assistant", "content": "", "tool_calls": [{"name": "stock", "arguments": '{"kind": 1}'}]},
            {"role": "tool", "content": "8"},
            {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        ],
        "tools": [TOOL],
    },
}


def render(source: str, values: dict[str, Any]) -> str:
    """As transformers renders chat templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.undefined = jinja2.Undefined
    return environment.from_string(source).render(**values)


@needs_published
@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_template_renders_as_the_published_one(name: str, generate: bool) -> None:
    """Guards the claim that the tiny model speaks Qwen's format: byte for byte, with tools, images and videos."""
    values = CONVERSATIONS[name] | {"add_generation_prompt": generate}
    published = (PUBLISHED / "chat_template.jinja").read_text("utf-8")
    assert render(CHAT_TEMPLATE, values) == render(published, values)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Trained on few scenes: every promise but the number of entries holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "CORPUS_SCENES", 30)
        return train_tokenizer(["what color is the shape?"] * 20)


@pytest.mark.parametrize("text", ["$12.50", "EXIT", "bbox_2d", "A 7B", "[140, 20]", "90COFFEE"])
def test_digits_and_capitals_stand_alone(tokenizer: Tokenizer, text: str) -> None:
    """Guards against a merge like ``50`` or ``EX``, which would hide from the model what it must read out."""
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    alone = [character for character in text if character.isdigit() or character.isupper()]
    assert [t for t in tokens if any(c.isdigit() or c.isupper() for c in t.removeprefix("Ġ"))] == alone


@pytest.mark.parametrize("text", ["How many boxes?", "  two  spaces\n", "货架上有3个瓶子。", "a\U0001f600b", "ÄÖ<|x|>"])
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    """Guards the byte level: what the vocabulary never saw must survive too."""
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_control_tokens(tokenizer: Tokenizer) -> None:
    """Guards one id for each control token, and that special ones vanish from answers while tool calls stay."""
    ids = {name: tokenizer.encode(name, add_special_tokens=False).ids for name in (*SPECIAL, *PLAIN_ADDED)}
    assert all(len(found) == 1 for found in ids.values())
    assert len({found[0] for found in ids.values()}) == len(SPECIAL) + len(PLAIN_ADDED)
    assert tokenizer.decode([ids["<|im_end|>"][0], ids["<tool_call>"][0]]) == "<tool_call>"
    assert tokenizer.get_vocab_size() <= VOCABULARY


def test_always_the_same_tokenizer(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards reproducible training: one corpus, one vocabulary."""
    monkeypatch.setattr(vocabulary, "CORPUS_SCENES", 30)
    assert train_tokenizer(["what color is the shape?"] * 20).to_str() == tokenizer.to_str()
