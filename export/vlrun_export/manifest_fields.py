"""The manifest's fields, from the checkpoint's files: dimensions, token ids, preprocessing, generation defaults.

Every number comes from a file of the checkpoint, never from a class default. A missing one raises CheckpointError.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import tokenizers

from vlrun import manifest
from vlrun.errors import CheckpointError
from vlrun.manifest import GenerationDefaults, Preprocessing, TextDimensions, TokenIds, VisionDimensions
from vlrun_export.checkpoint import Checkpoint, read_json

CONFIGURATION = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json")
COPIED = (*CONFIGURATION, manifest.TOKENIZER)
"""Files that are copied unchanged. The chat template is always written to a file of its own."""

RECOMMENDED_PRESENCE_PENALTY = 1.5
"""From the model card of Qwen3-VL Instruct, whose generation_config.json lacks it (QwenLM/Qwen3-VL#1825)."""

TOOLS = ("torch", "transformers", "optimum-intel", "nncf", "openvino")


def copy_files(checkpoint: Checkpoint, out: Path) -> None:
    """Copy tokenizer, configuration and chat template to ``out``. Raises CheckpointError."""
    for name in COPIED:
        if (checkpoint.folder / name).is_file():
            (out / name).write_bytes(_read(checkpoint.folder / name))
    (out / manifest.CHAT_TEMPLATE).write_text(chat_template(checkpoint.folder), encoding="utf-8")


def chat_template(folder: Path) -> str:
    """Read the chat template from the first file that has one. Raises CheckpointError."""
    if (folder / manifest.CHAT_TEMPLATE).is_file():
        return _read(folder / manifest.CHAT_TEMPLATE).decode("utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            template = read_json(folder, name).get("chat_template")
            if isinstance(template, str):
                return template
    raise CheckpointError(f"the checkpoint '{folder}' has no chat template ({manifest.CHAT_TEMPLATE})")


def text_dimensions(checkpoint: Checkpoint) -> TextDimensions:
    """Return the decoder's dimensions, with the ``vocab_size`` of tokenizer.json."""
    config = checkpoint.config.text_config
    tokens = _count_tokens(checkpoint.folder)
    if tokens > config.vocab_size:
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


def token_ids(checkpoint: Checkpoint) -> TokenIds:
    """Return the special token ids of config.json, and the end tokens of generation_config.json or config.json."""
    config = checkpoint.config
    ends = _generation(checkpoint.folder).get("eos_token_id", config.text_config.eos_token_id)
    if ends is None:
        raise CheckpointError(f"the generation_config.json of '{checkpoint.folder}' has no eos_token_id")
    return TokenIds(
        image=config.image_token_id,
        video=config.video_token_id,
        vision_start=config.vision_start_token_id,
        vision_end=config.vision_end_token_id,
        eos=tuple(ends) if isinstance(ends, list) else (ends,),
    )


def preprocessing(checkpoint: Checkpoint) -> Preprocessing:
    """Return limits and normalization of still images, from preprocessor_config.json."""
    folder = checkpoint.folder
    raw = read_json(folder, "preprocessor_config.json")
    vision = checkpoint.config.vision_config
    expected = {
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
    }
    for key, value in expected.items():
        if raw.get(key) != value:
            raise CheckpointError(
                f"the {key} of '{folder}' is {value} in config.json, but {raw.get(key)} in preprocessor_config.json"
            )
    size = raw.get("size") or {}
    try:
        return Preprocessing(
            min_pixels=int(size.get("shortest_edge") or raw["min_pixels"]),
            max_pixels=int(size.get("longest_edge") or raw["max_pixels"]),
            mean=_rgb(raw["image_mean"]),
            std=_rgb(raw["image_std"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"preprocessor_config.json of '{folder}' has no valid {error}") from error


def generation_defaults(checkpoint: Checkpoint) -> GenerationDefaults:
    """Return the sampling settings of generation_config.json. Missing keys are neutral; the default is greedy decoding.

    Sampling Instruct checkpoints without a presence penalty get the recommended one. Thinking checkpoints, recognized
    by ``<think>`` in the template, do not.
    """
    raw = _generation(checkpoint.folder)
    do_sample = bool(raw.get("do_sample", False))
    instruct = do_sample and "<think>" not in chat_template(checkpoint.folder)
    try:
        return GenerationDefaults(
            do_sample=do_sample,
            temperature=float(raw.get("temperature", 1.0)),
            top_k=int(raw.get("top_k", 0)),
            top_p=float(raw.get("top_p", 1.0)),
            min_p=float(raw.get("min_p") or 0.0),
            repetition_penalty=float(raw.get("repetition_penalty", 1.0)),
            presence_penalty=float(raw.get("presence_penalty", RECOMMENDED_PRESENCE_PENALTY if instruct else 0.0)),
            frequency_penalty=float(raw.get("frequency_penalty", 0.0)),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"generation_config.json of '{checkpoint.folder}' is broken: {error}") from error


def tool_versions() -> dict[str, str]:
    """Return the versions of the export tools."""
    return {name: version(name) for name in TOOLS}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror}") from error


def _generation(folder: Path) -> dict[str, Any]:
    name = "generation_config.json"
    return read_json(folder, name) if (folder / name).exists() else {}


def _rgb(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _count_tokens(folder: Path) -> int:
    """Return the largest id of tokenizer.json plus one."""
    path = folder / manifest.TOKENIZER
    if not path.is_file():
        raise CheckpointError(f"the checkpoint '{folder}' lacks {manifest.TOKENIZER}")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises bare Exception
        raise CheckpointError(f"{manifest.TOKENIZER} of '{folder}' is broken: {error}") from error
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
