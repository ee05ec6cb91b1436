"""The manifest's fields, from the checkpoint's files: dimensions, token ids, preprocessing, generation defaults.

Every number comes from a file of the checkpoint, never from a class default. A missing one raises CheckpointError.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer

from vlrun import manifest
from vlrun.errors import CheckpointError
from vlrun.manifest import Manifest, Quantization, TextDimensions, TokenIds, VisionDimensions
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_files import CONFIG_BYTES
from vlrun_export.generation_config import GENERATION_CONFIG, end_tokens, generation_defaults
from vlrun_export.model_config import CONFIG
from vlrun_export.preprocessing import PREPROCESSOR, PROCESSOR, preprocessing
from vlrun_export.tokenizer_files import TOKENIZER_CONFIG, chat_template, parse_tokenizer, tokenizer_json

COPIED = (CONFIG, GENERATION_CONFIG, PREPROCESSOR, PROCESSOR, TOKENIZER_CONFIG)
"""Files that are copied unchanged, for the user's information: the runtime does not read them."""

TOOLS = ("torch", "transformers", "nncf", "openvino")


def describe(checkpoint: Checkpoint, name: str, quantization: Quantization, out: Path) -> Manifest:
    """Write tokenizer, chat template and configuration to ``out``. Return the manifest without check results and files.

    Raises:
        CheckpointError: A file is missing or broken.
    """
    files = checkpoint.files
    content = tokenizer_json(files)
    tokenizer = parse_tokenizer(content, files)
    text, vision = text_dimensions(checkpoint, tokenizer), vision_dimensions(checkpoint)
    described = Manifest(
        format=manifest.FORMAT,
        family=manifest.FAMILY,
        name=name,
        text=text,
        vision=vision,
        tokens=token_ids(checkpoint, tokenizer, text.vocab_size),
        preprocessing=preprocessing(files, vision),
        generation=generation_defaults(files),
        quantization=quantization,
        tools=tool_versions(TOOLS),
        check=(),
        files={},
    )
    (out / manifest.TOKENIZER).write_text(content, encoding="utf-8")
    (out / manifest.CHAT_TEMPLATE).write_text(chat_template(files), encoding="utf-8", newline="")
    for copied in COPIED:
        if files.has(copied):
            files.json(copied)  # raises for anything else
            (out / copied).write_bytes(files.read(copied, CONFIG_BYTES))
    return described


def text_dimensions(checkpoint: Checkpoint, tokenizer: Tokenizer) -> TextDimensions:
    """Return the decoder's dimensions. ``vocab_size`` is the tokenizer's largest id plus one."""
    config = checkpoint.config.text_config
    tokens = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if not 0 < tokens <= config.vocab_size:
        raise CheckpointError(
            f"the tokenizer of '{checkpoint.folder}' has {tokens} tokens, but the model has only {config.vocab_size}"
        )
    return TextDimensions(
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocab_rows=config.vocab_size,
        vocab_size=tokens,
        max_positions=config.max_position_embeddings,
    )


def vision_dimensions(checkpoint: Checkpoint) -> VisionDimensions:
    """Return the vision encoder's dimensions."""
    config = checkpoint.config.vision_config
    return VisionDimensions(
        hidden=config.hidden_size,
        heads=config.num_heads,
        depth=config.depth,
        patch=config.patch_size,
        temporal_patch=config.temporal_patch_size,
        merge=config.spatial_merge_size,
        position_side=round(config.num_position_embeddings**0.5),
        deepstack=len(config.deepstack_visual_indexes),
    )


def token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer, vocab_size: int) -> TokenIds:
    """Return the control tokens of config.json, which the tokenizer must have, and the end tokens."""
    config = checkpoint.config
    ids = TokenIds(
        image=config.image_token_id,
        video=config.video_token_id,
        vision_start=config.vision_start_token_id,
        vision_end=config.vision_end_token_id,
        eos=end_tokens(checkpoint.files, tokenizer, vocab_size),
    )
    control = tokenizer.get_added_tokens_decoder()
    for name in ("image", "vision_start", "vision_end"):
        token = getattr(ids, name)
        if token not in control:
            raise CheckpointError(
                f"{name}_token_id in the config.json of '{checkpoint.folder}' is {token}, which is no control token of "
                "its tokenizer"
            )
    return ids


def tool_versions(tools: Sequence[str]) -> dict[str, str]:
    """Return the versions of the export tools."""
    return {name: version(name) for name in tools}
