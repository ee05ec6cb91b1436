"""Tokenizes text within limits. Text is untrusted: it never becomes control tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from vlrun.errors import OptionError, panics_as

MAX_TEXT = 2 * 2**20
"""Characters of a prompt: the longest context of the model family is 262,144 tokens, of about five characters each.

The tokenizer takes about three seconds for a million characters, and panics at about ten million.
"""


class TextEncoder:
    """Encodes text as the model's tokenizer does with control tokens off."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = Tokenizer(tokenizer.model)  # shares the vocabulary, but has no added tokens
        if tokenizer.normalizer is not None:
            self._tokenizer.normalizer = tokenizer.normalizer
        if tokenizer.pre_tokenizer is not None:
            self._tokenizer.pre_tokenizer = tokenizer.pre_tokenizer

    @panics_as(OptionError, "the tokenizer failed on this text: shorten it")
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text. Raises OptionError for too much text or invalid Unicode."""
        check_length(sum(map(len, texts)))
        try:
            # encode() of each text would hold the GIL: seconds for a megabyte of text.
            encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeError, TypeError) as error:
            raise OptionError("the text contains characters that are not valid Unicode") from error
        return [one.ids for one in encoded]


def check_length(characters: int) -> None:
    """Raise OptionError for more text than a prompt may have."""
    if characters > MAX_TEXT:
        raise OptionError(f"the prompt has {characters:,} characters of text; the limit is {MAX_TEXT:,}")
