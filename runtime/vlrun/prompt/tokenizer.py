"""Loads the model's tokenizer. Its file is untrusted: steps that multiply the text are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, is_panic
from vlrun.manifest import TOKENIZER
from vlrun.models.model_folder import ModelFolder

NORMALIZERS = frozenset(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents"))
"""Normalizers that lengthen a text by a small factor at most. ``Replace`` in a row doubles it with every step."""
DECODERS = frozenset(("ByteLevel", "Fuse"))


def load_tokenizer(content: bytes, folder: ModelFolder) -> Tokenizer:
    """Load a tokenizer.json.

    Raises:
        DamagedModel: It does not parse, does not match the manifest, or has steps that vlrun does not run.
    """
    where = f"{TOKENIZER} in '{folder.name}'"
    tokenizer = parse_tokenizer(content, where)
    expected, found = folder.manifest.text.vocab_size, tokenizer.get_vocab_size()
    if found != expected:
        raise DamagedModel(f"{where} has {found} tokens, the manifest says {expected}: export or copy it again")
    ids, control = folder.manifest.tokens, tokenizer.get_added_tokens_decoder()
    for token in (ids.image, ids.video, ids.vision_start, ids.vision_end, *ids.eos):
        if token not in control:
            raise DamagedModel(
                f"token {token} of {where} is no control token, but the manifest names it: export or copy it again"
            )
    return tokenizer


def parse_tokenizer(content: bytes, where: str) -> Tokenizer:
    """Parse the content of a tokenizer.json. ``where`` names it in errors. Raises DamagedModel."""
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except BaseException as error:  # the library raises bare Exceptions
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise DamagedModel(f"{where} is damaged ({reason}): export or copy it again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for part, allowed in ((tokenizer.normalizer, NORMALIZERS), (tokenizer.decoder, DECODERS)):
        for step in _steps(json.loads(part.__getstate__()) if part else None):
            if step not in allowed:
                raise DamagedModel(f"{where} has the step '{step}', which vlrun does not run")
    return tokenizer


def _steps(state: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the types of a normalizer or decoder and of those inside it."""
    if state is None:
        return
    if state["type"] != "Sequence":
        yield str(state["type"])
    for inner in (*state.get("normalizers", ()), *state.get("decoders", ())):
        yield from _steps(inner)
