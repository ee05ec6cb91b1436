"""Reads config.json: only the keys that describe the architecture, with checked values.

Everything else is left out, because transformers acts on some keys: ``attn_implementation`` and others can make it
fetch and run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrun.models.hf_config.files import ConfigFiles
from vlrun.models.hf_config.json_section import Section

CONFIG = "config.json"
MODEL_TYPE = "qwen3_vl"
ATTENTION = "sdpa"
"""The attention implementation of transformers for tracing and for the reference."""

MAX_LAYERS = 1024
MAX_SIZE = 1 << 18
"""Limit of hidden sizes, heads and head sizes; the weights must have the very shapes anyway."""
MAX_VOCABULARY = 1 << 24
MAX_POSITIONS = 1 << 26
MAX_PATCH = 128
MAX_FACTOR = 16
"""Limit of the frames of a patch, and of the side of a merge block."""
MAX_POSITION_TABLE = 4096**2

MIXTURE = ", a mixture of experts"
QUANTIZED: Mapping[str, str] = {
    "awq": " (AWQ)",
    "bitsandbytes": " (bitsandbytes)",
    "compressed-tensors": " (compressed-tensors)",
    "fbgemm_fp8": " (FP8)",
    "fp8": " (FP8)",
    "gptq": " (GPTQ)",
}
"""Methods of quantization in ``quantization_config``, and their names in messages."""

VISION_ROPE_THETA = 10_000.0
"""A constant of transformers 4. transformers 5 writes it to config.json; every published checkpoint has this value."""
TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def read_config(files: ConfigFiles) -> dict[str, Any]:
    """Return the arguments of ``Qwen3VLConfig``, in the form of transformers 4.57, which transformers 5 reads too.

    Raises:
        VlrunError: The file is missing or broken, a value is out of its range, or the model is not supported.
    """
    if not files.has(CONFIG):
        raise files.error(f"'{files.folder}' is not a checkpoint: it has no {CONFIG}")
    config = Section(files, f"{CONFIG} of '{files.folder}'", files.json(CONFIG))
    check_supported(files, config.values)
    text, vision = _text(config.section("text_config")), _vision(config.section("vision_config"))
    if vision["out_hidden_size"] != text["hidden_size"]:
        raise files.error(
            f"vision_config.out_hidden_size in the {config.source} is {vision['out_hidden_size']}, but "
            f"text_config.hidden_size is {text['hidden_size']}"
        )
    if (levels := len(vision["deepstack_visual_indexes"])) > text["num_hidden_layers"]:
        raise files.error(
            f"the {config.source} has {levels} DeepStack levels, but text_config.num_hidden_layers is "
            f"{text['num_hidden_layers']}"
        )
    ids = {key: config.integer(key, 0, text["vocab_size"] - 1) for key in TOKEN_IDS}
    return {"text_config": text, "vision_config": vision, **ids, **_tied(config)}


def check_supported(files: ConfigFiles, config: Mapping[str, Any]) -> None:
    """Raise ``files.foreign`` for a model of another architecture, or with weights that are quantized already."""
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        reason = MIXTURE if "moe" in str(model_type).lower() else ""
        raise files.foreign(
            f"'{files.folder}' is a model of type '{model_type!s:.60}'{reason}; only the dense Qwen3-VL family "
            f"('{MODEL_TYPE}': 2B, 4B, 8B and 32B, Instruct and Thinking) is supported: use one of these"
        )
    quantization = config.get("quantization_config") or config.get("quantization")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        kind = QUANTIZED.get(str(method).lower(), "")
        raise files.foreign(
            f"'{files.folder}' is already quantized{kind}: use the original bf16 checkpoint, which 'vlrun export' "
            "quantizes itself with --weights int8 or int4"
        )


def _tied(section: Section) -> dict[str, bool]:
    """Return the setting of a section, or nothing: whether there is a head of its own then depends on the weights."""
    key = "tie_word_embeddings"
    return {key: section.flag(key, False)} if section.has(key) else {}


def _text(section: Section) -> dict[str, Any]:
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    values: dict[str, Any] = {
        "model_type": "qwen3_vl_text",
        **{key: section.integer(key, 1, MAX_SIZE) for key in sizes},
        "num_hidden_layers": section.integer("num_hidden_layers", 1, MAX_LAYERS),
        "vocab_size": section.integer("vocab_size", 1, MAX_VOCABULARY),
        "hidden_act": section.string("hidden_act"),
        "max_position_embeddings": section.integer("max_position_embeddings", 1, MAX_POSITIONS),
        "rms_norm_eps": section.number("rms_norm_eps", 1e-20, 0.1),
        "attention_bias": section.flag("attention_bias", False),
    }
    values |= _rope(section, values["head_dim"])
    if values["num_attention_heads"] % values["num_key_value_heads"]:
        raise section.wrong("num_key_value_heads", f"a divisor of {values['num_attention_heads']} heads")
    return values | _tied(section)


def _rope(section: Section, head_dim: int) -> dict[str, Any]:
    """Return the rotary embedding. transformers 5 stores it, theta included, as ``rope_parameters``."""
    new = section.has("rope_parameters")
    rope = section.section("rope_parameters" if new else "rope_scaling")
    theta = (rope if new else section).number("rope_theta", 1, 1e12)
    kind, interleaved = rope.values.get("rope_type", rope.values.get("type")), rope.values.get("mrope_interleaved")
    if kind != "default" or interleaved is not True:
        raise section.files.error(
            f"{rope.path[:-1]} in the {section.source} must be the default interleaved M-RoPE, not type {kind!r:.40} "
            f"with mrope_interleaved {interleaved!r:.40}"
        )
    sections = rope.integers("mrope_section", 0, head_dim)
    if len(sections) != 3 or 2 * sum(sections) != head_dim:
        raise rope.wrong("mrope_section", f"three numbers with a sum of {head_dim / 2:g}")
    scaling = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": sections}
    return {"rope_theta": theta, "rope_scaling": scaling}


def _vision(section: Section) -> dict[str, Any]:
    depth = section.integer("depth", 1, MAX_LAYERS)
    sizes = ("hidden_size", "intermediate_size", "num_heads", "out_hidden_size")
    values: dict[str, Any] = {
        "model_type": "qwen3_vl",
        "depth": depth,
        **{key: section.integer(key, 1, MAX_SIZE) for key in sizes},
        "patch_size": section.integer("patch_size", 1, MAX_PATCH),
        "temporal_patch_size": section.integer("temporal_patch_size", 1, MAX_FACTOR),
        "spatial_merge_size": section.integer("spatial_merge_size", 1, MAX_FACTOR),
        "num_position_embeddings": section.integer("num_position_embeddings", 1, MAX_POSITION_TABLE),
        "hidden_act": section.string("hidden_act"),
        "in_channels": section.integer("in_channels", 3, 3),
        "deepstack_visual_indexes": section.integers("deepstack_visual_indexes", 0, depth - 1),
    }
    if values["hidden_size"] % (4 * values["num_heads"]):
        raise section.wrong("num_heads", f"a divisor of a quarter of hidden_size {values['hidden_size']}")
    if round(values["num_position_embeddings"] ** 0.5) ** 2 != values["num_position_embeddings"]:
        raise section.wrong("num_position_embeddings", "the square of a whole number")
    levels = values["deepstack_visual_indexes"]
    if levels != sorted(set(levels)):
        raise section.wrong("deepstack_visual_indexes", "a list in increasing order")
    if section.has("rope_parameters"):
        rope = section.section("rope_parameters")
        if rope.number("rope_theta", 1, 1e12, VISION_ROPE_THETA) != VISION_ROPE_THETA:
            raise rope.wrong("rope_theta", f"{VISION_ROPE_THETA:g}")
        if rope.values.get("rope_type", "axial") not in ("axial", "default"):
            raise rope.wrong("rope_type", '"axial"')
    return values
