"""The bytes of all tokens, and their file in the cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.runtime.structured.random_answers import EOS, TEXT_TOKENIZER, VOCAB_SIZE
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.storage import files
from vlrun.structured.grammar import GrammarTokenizer
from vlrun.structured.vocabulary import load_vocabulary


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the embedded model's vocabulary."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, "fingerprint")
    (path,) = (tmp_path / "vlrun" / "vocabulary").iterdir()
    return path


def test_the_vocabulary_has_the_bytes_of_every_token() -> None:
    raw = TokenBytes(TEXT_TOKENIZER).raw
    assert load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, None) == [raw(token) for token in range(VOCAB_SIZE)]


def test_the_vocabulary_is_collected_once(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took half a second in every process that used a schema."""
    first = load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, None)
    monkeypatch.setattr("vlrun.structured.vocabulary._collect", lambda *_: pytest.fail("collected again"))
    assert load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, "fingerprint") == first
    tokenizer = GrammarTokenizer(TEXT_TOKENIZER, EOS, VOCAB_SIZE, "fingerprint")
    assert tokenizer.load().decode_bytes([300]) == first[300]


@pytest.mark.parametrize("fingerprint", ["other", "fingerprint"])
def test_each_tokenizer_and_size_has_its_own_file(stored: Path, fingerprint: str) -> None:
    """Tokens of another model would make every answer wrong."""
    load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE + (fingerprint == "fingerprint"), fingerprint)
    assert len(list(stored.parent.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "other", "nothing", "folder"])
def test_a_damaged_file_is_collected_again(stored: Path, damage: str) -> None:
    expected = load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, None)
    content = stored.read_bytes()
    if damage == "other":
        files.write_checked(stored, [b"\x93\xc0\xc0\xc0"])
    elif damage == "folder":
        stored.unlink()
        stored.mkdir()
    else:
        flipped = bytes([content[0], content[1] ^ 1]) + content[2:]
        stored.write_bytes({"flipped": flipped, "cut": content[:-5], "nothing": b""}[damage])
    assert load_vocabulary(TEXT_TOKENIZER, VOCAB_SIZE, "fingerprint") == expected
    if damage != "folder":
        assert stored.read_bytes() == content


def test_forced_text_that_the_tokenizer_would_change_is_left_to_the_model() -> None:
    """A tokenizer that normalizes text gives tokens of another text, which the grammar refuses."""
    tokenizer = Tokenizer.from_str(TEXT_TOKENIZER.to_str())
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.Lowercase()
    loaded = GrammarTokenizer(tokenizer, EOS, VOCAB_SIZE).load()
    assert bytes(loaded.decode_bytes(loaded.tokenize_str("ab"))) == b"ab"
    assert loaded.tokenize_str("AB") in ([], TEXT_TOKENIZER.encode("AB").ids)
