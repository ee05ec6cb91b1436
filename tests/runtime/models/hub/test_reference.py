"""What users name to pull."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.models.hub.reference import aliases, parse_reference
from vlrun.models.store.names import is_name

HUB = "https://hub.example"
READ = {
    "Qwen/Qwen3-VL-2B-Instruct": ("Qwen/Qwen3-VL-2B-Instruct", "main", "qwen3-vl-2b-instruct"),
    "qwen3-vl-2b": ("Qwen/Qwen3-VL-2B-Instruct", "main", "qwen3-vl-2b"),
    "Qwen3-VL-2B": ("Qwen/Qwen3-VL-2B-Instruct", "main", "qwen3-vl-2b"),
    "qwen3-vl-4b@v1.0": ("Qwen/Qwen3-VL-4B-Instruct", "v1.0", "qwen3-vl-4b"),
    "a/b@refs/pr/3": ("a/b", "refs/pr/3", "b"),
    "https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct": (
        "Qwen/Qwen3-VL-2B-Instruct",
        "main",
        "qwen3-vl-2b-instruct",
    ),
    "https://huggingface.co/a/B.c/tree/dev/": ("a/B.c", "dev", "b.c"),
    "https://hub.example/a/b": ("a/b", "main", "b"),
}


@pytest.mark.parametrize("text", READ)
def test_references(text: str) -> None:
    reference = parse_reference(text, HUB)
    assert (reference.repository, reference.revision, reference.name(None)) == READ[text]
    assert reference.name("int4") == f"{READ[text][2]}-int4"


@pytest.mark.parametrize("text", ["a", "qwen3-vl-3b", "a/b/c", "../b", "a/..", "a b/c", "/a/b", "a/b--c", "", "@main"])
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(OptionError, match="is neither OWNER/NAME of a repository nor a short name such as 'qwen3-vl-"):
        parse_reference(text, HUB)


@pytest.mark.parametrize("text", ["a/b@", "a/b@..", "a/b@-x", "a/b@x y", "a/b@x?y", f"a/b@{'x' * 201}"])
def test_what_is_no_revision(text: str) -> None:
    with pytest.raises(OptionError, match="cannot be a revision"):
        parse_reference(text, HUB)


def test_every_alias_is_a_name_and_names_a_repository() -> None:
    assert aliases()
    for alias, repository in aliases().items():
        assert is_name(alias)
        assert alias == alias.lower()
        assert parse_reference(repository, HUB).repository == repository


def test_an_address_at_another_hub() -> None:
    """Guards a model of one hub that is silently replaced by one of another."""
    with pytest.raises(OptionError, match=r"set HF_ENDPOINT to 'https://other\.example'"):
        parse_reference("https://other.example/a/b", HUB)
