"""The bytes of single tokens, which may be parts of characters."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer


class TokenBytes:
    """The bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}

    def raw(self, token: int) -> bytes:
        """Return the bytes of a token; empty for an id without a token."""
        if token in self._added:
            return str(self._added[token]).encode()
        characters = self._tokenizer.id_to_token(token) or ""
        table = bytes_by_character()
        return bytes(table[character] for character in characters if character in table)


@cache
def bytes_by_character() -> dict[str, int]:
    """Return the byte of each character of byte-level BPE (GPT-2, ``bytes_to_unicode``).

    Printable characters stand for their own byte, the characters from U+0100 for the other bytes in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
