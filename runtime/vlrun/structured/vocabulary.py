"""The bytes of all tokens, which llguidance's tokenizer is made of: kept on disk, because collecting them takes 0.5 s.

Making llguidance's tokenizer from tokenizer.json instead takes 2 s.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from functools import cache

import msgspec
from tokenizers import Tokenizer

from vlrun.prompt.token_bytes import bytes_by_character
from vlrun.storage import cache_paths, files

FORMAT = 1
"""Raise it when the same tokenizer gives other bytes."""
MAX_BYTES = 64 * 2**20
"""Of one file: 1.3 MB for 151,000 tokens."""
MAX_STORED = 16 * 2**20
"""Of all files together."""


def load_vocabulary(tokenizer: Tokenizer, size: int, fingerprint: str | None) -> list[bytes]:
    """Return the bytes of each token; empty for an id without a token.

    Args:
        tokenizer: The model's tokenizer.
        size: Number of token ids.
        fingerprint: SHA-256 of the tokenizer's file, under which the bytes are kept on disk; None keeps nothing.
    """
    if fingerprint is None:
        return _collect(tokenizer, size)
    folder = cache_paths.vocabularies()
    path = folder / f"{hashlib.sha256(f'{FORMAT} {size} {fingerprint}'.encode()).hexdigest()}.vocab"
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        stored = msgspec.msgpack.decode(files.read_checked(path, MAX_BYTES).data, type=list[bytes])
        if len(stored) == size:
            files.touch(path)
            return stored
    tokens = _collect(tokenizer, size)
    with contextlib.suppress(OSError):
        files.make_folder(folder)
        files.write_checked(path, [msgspec.msgpack.encode(tokens)])
        files.remove_partial(folder)
        files.evict(folder.glob("*.vocab"), MAX_STORED)
    return tokens


def _collect(tokenizer: Tokenizer, size: int) -> list[bytes]:
    tokens = [b""] * size
    table = _latin_1()
    for text, token in tokenizer.get_vocab(with_added_tokens=False).items():
        if token < size:
            tokens[token] = text.translate(table).encode("latin-1", "ignore")
    for token, added in tokenizer.get_added_tokens_decoder().items():
        if token < size:
            tokens[token] = added.content.encode()
    return tokens


@cache
def _latin_1() -> Mapping[int, str]:
    """Return the Latin-1 character with the byte of each character of byte-level BPE."""
    return {ord(character): chr(byte) for character, byte in bytes_by_character().items()}
