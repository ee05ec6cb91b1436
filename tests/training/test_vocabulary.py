"""The tokenizer and chat template of the embedded model."""

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
    """Render a chat template as transformers does."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.undefined = jinja2.Undefined
    return environment.from_string(source).render(**values)


@needs_published
@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_template_renders_as_the_published_one(name: str, generate: bool) -> None:
    values = CONVERSATIONS[name] | {"add_generation_prompt": generate}
    published = (PUBLISHED / "chat_template.jinja").read_text("utf-8")
    assert render(CHAT_TEMPLATE, values) == render(published, values)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Train on few scenes: only the number of entries differs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "CORPUS_SCENES", 30)
        return train_tokenizer(["what color is the shape?"] * 20)


@pytest.mark.parametrize("text", ["$12.50", "EXIT", "bbox_2d", "A 7B", "[140, 20]", "90COFFEE"])
def test_digits_and_capitals_are_single_tokens(tokenizer: Tokenizer, text: str) -> None:
    """Guards against merges such as ``50`` or ``EX``: the model reads text character by character."""
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    alone = [character for character in text if character.isdigit() or character.isupper()]
    assert [t for t in tokens if any(c.isdigit() or c.isupper() for c in t.removeprefix("Ġ"))] == alone


@pytest.mark.parametrize("text", ["How many boxes?", "  two  spaces\n", "货架上有3个瓶子。", "a\U0001f600b", "ÄÖ<|x|>"])
def test_any_text_is_decoded_unchanged(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_control_tokens_have_one_id_each(tokenizer: Tokenizer) -> None:
    """Special tokens vanish from answers; tool calls stay."""
    ids = {name: tokenizer.encode(name, add_special_tokens=False).ids for name in (*SPECIAL, *PLAIN_ADDED)}
    assert all(len(found) == 1 for found in ids.values())
    assert len({found[0] for found in ids.values()}) == len(SPECIAL) + len(PLAIN_ADDED)
    assert tokenizer.decode([ids["<|im_end|>"][0], ids["<tool_call>"][0]]) == "<tool_call>"
    assert tokenizer.get_vocab_size() <= VOCABULARY


def test_training_a_tokenizer_is_reproducible(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CORPUS_SCENES", 30)
    assert train_tokenizer(["what color is the shape?"] * 20).to_str() == tokenizer.to_str()
