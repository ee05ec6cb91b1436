"""Single tokens as bytes: a token of a byte-level vocabulary may be part of a character only.

Knows the tokenizer; does not know which text a token stands in.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer


class TokenBytes:
    """The bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}

    def raw(self, token: int) -> bytes:
        """Its bytes; of an id that no token has, none."""
        if token in self._added:
            return str(self._added[token]).encode()
        letters = self._tokenizer.id_to_token(token) or ""
        table = _bytes_by_letter()
        return bytes(table[letter] for letter in letters if letter in table)


@cache
def _bytes_by_letter() -> dict[str, int]:
    """The letters that byte-level BPE writes for the 256 bytes: those that can be seen stand for themselves, the others
    for the letters from U+0100 on, in order (GPT-2, ``bytes_to_unicode``).
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + index): byte for index, byte in enumerate(hidden)}
