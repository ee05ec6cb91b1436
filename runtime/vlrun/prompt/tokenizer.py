"""Loads the model's tokenizer. Its file is untrusted: steps that multiply the text or may never end are refused."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, is_panic
from vlrun.manifest import TOKENIZER
from vlrun.models.model_folder import ModelFolder

NORMALIZERS = frozenset(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents"))
"""Normalizers that lengthen a text by a small factor at most. ``Replace`` in a row doubles it with every step."""
DECODERS = frozenset(("ByteLevel", "Fuse"))
MAX_STEPS = 16
"""Steps of one kind, each of which reads the whole text; published tokenizers have two."""
PRE_TOKENIZERS = frozenset(("ByteLevel", "Split"))
PUBLISHED_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TINY_PATTERN = "[0-9A-Z]"
PATTERNS = frozenset((PUBLISHED_PATTERN, TINY_PATTERN))
"""Regular expressions that texts may be split by: of the published models and the embedded one. Others may take
exponential time, and whether they do cannot be told in general."""


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
    _check_steps(tokenizer.normalizer, NORMALIZERS, where)
    _check_steps(tokenizer.decoder, DECODERS, where)
    splits = _check_steps(tokenizer.pre_tokenizer, PRE_TOKENIZERS, where)
    for step in splits:
        if step.get("pattern", {}).get("Regex", PUBLISHED_PATTERN) not in PATTERNS:
            raise DamagedModel(f"{where} splits text by a regular expression that vlrun does not know")
    if sum(step["type"] == "ByteLevel" for step in splits) > 1:  # each one lengthens a text that is not ASCII
        raise DamagedModel(f"{where} has the step 'ByteLevel' more than once")
    return tokenizer


def _check_steps(part: Any, allowed: Container[str], where: str) -> list[Mapping[str, Any]]:
    """Return the steps of a normalizer, pre-tokenizer or decoder. Raises DamagedModel for one that is not allowed."""
    steps = list(_steps(json.loads(part.__getstate__()) if part else None))
    for step in steps:
        if step["type"] not in allowed:
            raise DamagedModel(f"{where} has the step '{step['type']}', which vlrun does not run")
    if len(steps) > MAX_STEPS:
        raise DamagedModel(f"{where} has {len(steps)} steps in a row, the limit is {MAX_STEPS}")
    return steps


def _steps(state: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield a step, or those inside it."""
    if state is None:
        return
    if state["type"] != "Sequence":
        yield state
    for kind in ("normalizers", "pretokenizers", "decoders"):
        for inner in state.get(kind, ()):
            yield from _steps(inner)
