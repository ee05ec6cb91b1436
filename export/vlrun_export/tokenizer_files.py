"""The tokenizer and the chat template of a checkpoint, in the form of a model folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vlrun.errors import CheckpointError, is_panic
from vlrun.manifest import CHAT_TEMPLATE, TOKENIZER
from vlrun_export.checkpoint_files import CONFIG_BYTES, TEMPLATE_BYTES, TOKENIZER_BYTES, CheckpointFiles

VOCABULARY = ("vocab.json", "merges.txt")
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED_TOKENS = (TOKENIZER_CONFIG, "added_tokens.json", "special_tokens_map.json")
TEMPLATES = ("chat_template.json", "processor_config.json", TOKENIZER_CONFIG)
"""JSON files that may have the template under the key ``chat_template``."""


def tokenizer_json(files: CheckpointFiles) -> str:
    """Return tokenizer.json, or make it from vocab.json and merges.txt.

    Truncation and padding are removed: training scripts leave them in the file, and transformers ignores them, but the
    tokenizers library would cut prompts short.
    """
    if not files.has(TOKENIZER):
        return _converted(files)
    content = files.text(TOKENIZER, TOKENIZER_BYTES)
    parsed = files.json(TOKENIZER, TOKENIZER_BYTES)
    if parsed.get("truncation") is None and parsed.get("padding") is None:
        return content
    return json.dumps(parsed | {"truncation": None, "padding": None})


def parse_tokenizer(content: str, files: CheckpointFiles) -> Tokenizer:
    """Parse a tokenizer.json. Raises CheckpointError."""
    try:
        return Tokenizer.from_str(content)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise CheckpointError(f"{TOKENIZER} of '{files.folder}' is broken: {error}") from error


def chat_template(files: CheckpointFiles) -> str:
    """Read the chat template from the first file that has one. Raises CheckpointError."""
    if files.has(CHAT_TEMPLATE):
        return files.text(CHAT_TEMPLATE, TEMPLATE_BYTES)
    for name in TEMPLATES:
        template = _default(files.json(name).get("chat_template")) if files.has(name) else None
        if template is not None:
            if len(template) > TEMPLATE_BYTES or not _is_unicode(template):
                raise CheckpointError(
                    f"the chat template in {name} of '{files.folder}' is too long or not valid Unicode"
                )
            return template
    raise CheckpointError(f"the checkpoint '{files.folder}' has no chat template ({CHAT_TEMPLATE})")


def end_token(files: CheckpointFiles) -> str | None:
    """Return the tokenizer's end token, or None."""
    token = files.json(TOKENIZER_CONFIG).get("eos_token") if files.has(TOKENIZER_CONFIG) else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _default(template: Any) -> str | None:
    """Return a template, or the one named ``default`` of several."""
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def _is_unicode(text: str) -> bool:
    """Return whether the text can be written to a file: JSON allows half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _converted(files: CheckpointFiles) -> str:
    """Convert the tokenizer of checkpoints that were saved without the tokenizers library."""
    from transformers import Qwen2TokenizerFast

    absent = [name for name in VOCABULARY if not files.has(name)]
    if absent:
        raise CheckpointError(f"the checkpoint '{files.folder}' lacks {TOKENIZER}, or {absent[0]} to make it from")
    with tempfile.TemporaryDirectory() as copies:  # transformers would follow links and open anything
        for name in (*VOCABULARY, *(name for name in ADDED_TOKENS if files.has(name))):
            limit = TOKENIZER_BYTES if name in VOCABULARY else CONFIG_BYTES
            (Path(copies) / name).write_bytes(files.read(name, limit))
        try:
            tokenizer = Qwen2TokenizerFast.from_pretrained(copies, local_files_only=True).backend_tokenizer
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer.to_str()
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            message = f"cannot make {TOKENIZER} from {' and '.join(VOCABULARY)} of '{files.folder}'"
            raise CheckpointError(f"{message}: {error}") from error
