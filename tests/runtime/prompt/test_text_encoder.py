"""Tokenizing text: control tokens are off, and neither length nor a panic of the library ends the process."""

from __future__ import annotations

import pytest

from vlrun.embedded import FOLDER
from vlrun.errors import OptionError
from vlrun.prompt.chat_template import ChatTemplate, Message
from vlrun.prompt.text_encoder import MAX_TEXT, TextEncoder
from vlrun.prompt.tokenizer import parse_tokenizer

TINY = parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json")


class PanicException(BaseException):
    """As a Rust library raises it: not an Exception."""


class PanickingTokenizer:
    """A tokenizer that panics, as the real one does on ten million blanks."""

    def encode_batch_fast(self, *_: object, **__: object) -> None:
        raise PanicException("called `Result::unwrap()` on an `Err` value")


def test_a_panic_of_the_tokenizer_is_an_error() -> None:
    """Guards against 173 lines of trace: ``except Exception`` does not catch a panic."""
    encoder = TextEncoder(TINY)
    encoder._tokenizer = PanickingTokenizer()
    with pytest.raises(OptionError, match="shorten it"):
        encoder.encode(["x"])


def test_text_beyond_the_limit_is_refused_before_it_is_tokenized() -> None:
    blanks = " " * (MAX_TEXT + 1)
    template = ChatTemplate("{{ messages[0].content }}", TINY, 1)
    for use in (lambda: template.encode([Message("user", (blanks,))], []), lambda: template.encode_text(blanks)):
        with pytest.raises(OptionError, match="2,097,153 characters of text; the limit is 2,097,152"):
            use()


def test_names_of_control_tokens_are_text() -> None:
    encoder = TextEncoder(TINY)
    control = TINY.get_added_tokens_decoder()
    text = "".join(added.content for added in control.values())
    (ids,) = encoder.encode([text])
    assert not set(ids) & set(control)
    assert TINY.decode(ids, skip_special_tokens=False) == text
