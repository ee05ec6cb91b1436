"""The manifest's fields from configuration files: dimensions, token ids, preprocessing, generation defaults.

Every number comes from a file, never from a class default. A missing one raises what ``ConfigFiles.error`` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from vlrun import manifest
from vlrun.errors import is_panic
from vlrun.manifest import TOKENIZER, Manifest, Quantization, TextDimensions, TokenIds, VisionDimensions
from vlrun.models.hf_config.files import ConfigFiles
from vlrun.models.hf_config.generation_config import end_tokens, generation_defaults
from vlrun.models.hf_config.model_config import TOKEN_IDS
from vlrun.models.hf_config.preprocessing import preprocessing
from vlrun.models.hf_config.video_rules import video_rules


def describe(
    files: ConfigFiles,
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    name: str,
    quantization: Quantization,
    tools: Mapping[str, str],
) -> Manifest:
    """Return the manifest of a model without check results and files; ``config`` is what ``read_config`` returned."""
    text, vision = text_dimensions(files, config, tokenizer), vision_dimensions(config)
    return Manifest(
        format=manifest.FORMAT,
        family=manifest.FAMILY,
        name=name,
        text=text,
        vision=vision,
        tokens=token_ids(files, config, tokenizer, text.vocab_size),
        preprocessing=preprocessing(files, vision),
        generation=generation_defaults(files),
        quantization=quantization,
        tools=tools,
        check=(),
        files={},
        video=video_rules(files),
    )


def parse_tokenizer(content: str, files: ConfigFiles) -> Tokenizer:
    """Parse a tokenizer.json."""
    try:
        return Tokenizer.from_str(content)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise files.error(f"{TOKENIZER} of '{files.folder}' is broken: {error}") from error


def text_dimensions(files: ConfigFiles, config: Mapping[str, Any], tokenizer: Tokenizer) -> TextDimensions:
    """Return the decoder's dimensions. ``vocab_size`` is the tokenizer's largest id plus one."""
    text = config["text_config"]
    tokens = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if not 0 < tokens <= text["vocab_size"]:
        raise files.error(
            f"the tokenizer of '{files.folder}' has {tokens} tokens, but the model has only {text['vocab_size']}"
        )
    return TextDimensions(
        hidden=text["hidden_size"],
        layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=text["num_key_value_heads"],
        head_dim=text["head_dim"],
        vocab_rows=text["vocab_size"],
        vocab_size=tokens,
        max_positions=text["max_position_embeddings"],
    )


def vision_dimensions(config: Mapping[str, Any]) -> VisionDimensions:
    """Return the vision encoder's dimensions."""
    vision = config["vision_config"]
    return VisionDimensions(
        hidden=vision["hidden_size"],
        heads=vision["num_heads"],
        depth=vision["depth"],
        patch=vision["patch_size"],
        temporal_patch=vision["temporal_patch_size"],
        merge=vision["spatial_merge_size"],
        position_side=round(vision["num_position_embeddings"] ** 0.5),
        deepstack=len(vision["deepstack_visual_indexes"]),
    )


def token_ids(files: ConfigFiles, config: Mapping[str, Any], tokenizer: Tokenizer, vocab_size: int) -> TokenIds:
    """Return the control tokens of config.json, which the tokenizer must have, and the end tokens."""
    image, video, start, end = (config[key] for key in TOKEN_IDS)
    control = tokenizer.get_added_tokens_decoder()
    for key, token in zip(TOKEN_IDS, (image, video, start, end), strict=True):
        if token not in control and token != video:
            raise files.error(
                f"{key} in the config.json of '{files.folder}' is {token}, which is no control token of its tokenizer"
            )
    return TokenIds(image, video, start, end, eos=end_tokens(files, tokenizer, vocab_size))
