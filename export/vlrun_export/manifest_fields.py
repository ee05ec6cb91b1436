"""The manifest of a checkpoint, and the files that are copied from it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vlrun import manifest
from vlrun.manifest import Manifest, Quantization
from vlrun.models.hf_config import manifest_fields
from vlrun.models.hf_config.chat_template import TOKENIZER_CONFIG, chat_template
from vlrun.models.hf_config.files import CONFIG_BYTES
from vlrun.models.hf_config.generation_config import GENERATION_CONFIG
from vlrun.models.hf_config.model_config import CONFIG
from vlrun.models.hf_config.preprocessing import PREPROCESSOR, PROCESSOR
from vlrun.models.hf_config.video_rules import VIDEO_PREPROCESSOR
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.tokenizer_files import tokenizer_json

COPIED = (CONFIG, GENERATION_CONFIG, PREPROCESSOR, PROCESSOR, VIDEO_PREPROCESSOR, TOKENIZER_CONFIG)
"""Files that are copied unchanged, for the user's information: the runtime does not read them."""

TOOLS = ("torch", "transformers", "nncf", "openvino")


def describe(
    checkpoint: Checkpoint, name: str, quantization: Quantization, out: Path, tools: Sequence[str] = TOOLS
) -> Manifest:
    """Write tokenizer, chat template and configuration to ``out``. Return the manifest without check results and files.

    Raises:
        CheckpointError: A file is missing or broken.
    """
    files = checkpoint.files
    content = tokenizer_json(files)
    tokenizer = manifest_fields.parse_tokenizer(content, files)
    config = checkpoint.contents.config
    described = manifest_fields.describe(files, config, tokenizer, name, quantization, tool_versions(tools))
    (out / manifest.TOKENIZER).write_text(content, encoding="utf-8")
    (out / manifest.CHAT_TEMPLATE).write_text(chat_template(files), encoding="utf-8", newline="")
    for copied in COPIED:
        if files.has(copied):
            files.json(copied)  # raises for anything else
            (out / copied).write_bytes(files.read(copied, CONFIG_BYTES))
    return described


def tool_versions(tools: Sequence[str] = TOOLS) -> dict[str, str]:
    """Return the versions of the export tools."""
    return {name: version(name) for name in tools}
