"""The bytes of single tokens."""

from __future__ import annotations

from tokenizers import Tokenizer

from vlrun.embedded import FOLDER
from vlrun.prompt.token_bytes import TokenBytes


def test_bytes_of_tokens_join_to_the_text() -> None:
    """Guards characters that are split between tokens."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    token_bytes = TokenBytes(tokenizer)
    for text in ("6 bottles", "多少个瓶子？", "naïve 🙂\n\tÿ­"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(token_bytes.raw(token) for token in ids).decode() == text
    assert token_bytes.raw(tokenizer.token_to_id("<|im_end|>")) == b"<|im_end|>"
    assert token_bytes.raw(10**9) == b""
