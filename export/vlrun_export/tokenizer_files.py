"""The tokenizer of a checkpoint, in the form of a model folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from vlrun.errors import CheckpointError, is_panic
from vlrun.manifest import TOKENIZER
from vlrun.models.hf_config.chat_template import TOKENIZER_CONFIG
from vlrun.models.hf_config.files import CONFIG_BYTES
from vlrun_export.checkpoint_files import TOKENIZER_BYTES, CheckpointFiles

VOCABULARY = ("vocab.json", "merges.txt")
ADDED_TOKENS = (TOKENIZER_CONFIG, "added_tokens.json", "special_tokens_map.json")


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
