"""The tokenizer of a model folder encodes as transformers does, whatever files the checkpoint has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Tokenizer

from tests.published import PUBLISHED, needs_published
from tests.small_models import SPECIAL_TOKENS, build_tokenizer
from vlrun.errors import CheckpointError
from vlrun.models.hf_config.chat_template import chat_template
from vlrun_export.checkpoint_files import CheckpointFiles
from vlrun_export.tokenizer_files import tokenizer_json

TEXTS = (
    "How many red bottles? It's 12.50.",
    "这里有几个瓶子？",
    "<|im_start|>user\n<|image_pad|><|im_end|>",
    " a  b\n\n",
)


def write_parts(folder: Path, whole: Tokenizer) -> CheckpointFiles:
    """Write vocab.json, merges.txt and tokenizer_config.json instead of tokenizer.json."""
    folder.mkdir(exist_ok=True)
    state = json.loads(whole.to_str())
    vocabulary = {token: number for token, number in state["model"]["vocab"].items() if token not in SPECIAL_TOKENS}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = ["#version: 0.2", *(" ".join(pair) for pair in state["model"]["merges"])]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    added = {str(token.pop("id")): token for token in state["added_tokens"]}
    config: dict[str, object] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
        "eos_token": "<|im_end|>",
    }
    config |= {"pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CheckpointFiles(folder)


def test_vocab_and_merges_become_a_tokenizer(tmp_path: Path) -> None:
    """Guards checkpoints that were saved by the slow tokenizer."""
    whole = build_tokenizer()
    made = Tokenizer.from_str(tokenizer_json(write_parts(tmp_path / "checkpoint", whole)))
    assert made.get_vocab() == whole.get_vocab()
    assert made.decode(made.encode(TEXTS[1]).ids) == TEXTS[1]
    assert [made.token_to_id(name) for name in SPECIAL_TOKENS] == [whole.token_to_id(name) for name in SPECIAL_TOKENS]


@needs_published
@pytest.mark.slow
def test_the_published_vocabulary_and_merges_encode_as_the_published_tokenizer(tmp_path: Path) -> None:
    whole = Tokenizer.from_file(str(PUBLISHED / "tokenizer.json"))
    made = Tokenizer.from_str(tokenizer_json(write_parts(tmp_path / "checkpoint", whole)))
    for text in TEXTS:
        assert made.encode(text).ids == whole.encode(text).ids


def test_without_any_tokenizer_both_ways_are_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.json, or merges\.txt to make it from"):
        tokenizer_json(CheckpointFiles(tmp_path))


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_broken_parts_are_blamed(tmp_path: Path, name: str) -> None:
    files = write_parts(tmp_path, build_tokenizer())
    (tmp_path / name).write_text("[1, 2")
    with pytest.raises(CheckpointError, match=r"cannot make tokenizer\.json from vocab\.json and merges\.txt"):
        tokenizer_json(files)


def test_truncation_and_padding_are_removed(tmp_path: Path) -> None:
    """Guards prompts cut to the length of training, which transformers ignores."""
    tokenizer = build_tokenizer()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = tokenizers.Tokenizer.from_str(tokenizer_json(CheckpointFiles(tmp_path)))
    assert (made.truncation, made.padding) == (None, None)
    assert made.encode(TEXTS[0] * 10).ids == build_tokenizer().encode(TEXTS[0] * 10).ids


def test_the_default_of_several_templates_is_taken(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert chat_template(CheckpointFiles(tmp_path)) == "plain"


@pytest.mark.parametrize("template", ["\ud800", "x" * 2**21], ids=["half a character", "too long"])
def test_a_template_that_cannot_be_written_is_refused(tmp_path: Path, template: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(CheckpointError, match=r"chat template in tokenizer_config\.json"):
        chat_template(CheckpointFiles(tmp_path))
