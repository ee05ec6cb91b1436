"""Random small checkpoints of the real Qwen3-VL architecture, with their own tokenizer and chat template. Weights are
scaled so that logits are well spread and greedy choices do not depend on rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
VOCAB_ROWS = 448
"""More rows than tokens, as in the published checkpoints; the padding rows must never be sampled."""

TIED_EMBEDDING_SCALE = 0.2
"""Small compared with the layers' outputs; otherwise a tied head repeats the last token."""

CORPUS = (
    "How many bottles are there? There are three red bottles and two green cans on the shelf.",
    "What is the price of the box? It costs 12.50 euros. 这里有几个瓶子？ 有三个红色的瓶子。",
    "Describe this image. user assistant system\n",
)
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part.type == 'video' %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def build_checkpoint(
    folder: Path,
    *,
    tied: bool,
    deepstack: tuple[int, ...],
    seed: int,
    shards: int = 1,
    sizes: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> Path:
    """Write a random checkpoint in bfloat16 to ``folder`` and return it.

    ``tied``: head and embedding are one matrix; ``deepstack``: vision blocks (of 5) whose features are added to the
    first decoder layers (of 4); ``shards``: number of safetensors files; ``sizes``: other values of the sections
    ``text_config`` and ``vision_config``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(tokenizer, tied, deepstack, sizes)
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    _write_json(folder / "generation_config.json", _generation(tokenizer))
    _write_json(folder / "preprocessor_config.json", _preprocessing())
    _write_weights(folder, _random_weights(config, tied, seed), shards)
    return folder


def build_tokenizer() -> Tokenizer:
    """Train a byte-level BPE tokenizer with Qwen's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return tokenizer


def _config(
    tokenizer: Tokenizer, tied: bool, deepstack: tuple[int, ...], sizes: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    text = {
        "model_type": "qwen3_vl_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
        "vocab_size": VOCAB_ROWS, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "attention_bias": False,
        "rope_theta": 10000.0, "tie_word_embeddings": tied, "dtype": "bfloat16",
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [6, 5, 5]},
    }  # fmt: skip
    vision = {
        "model_type": "qwen3_vl", "depth": 5, "hidden_size": 48, "intermediate_size": 64, "num_heads": 3,
        "hidden_act": "gelu_pytorch_tanh", "in_channels": 3, "patch_size": 16, "temporal_patch_size": 2,
        "spatial_merge_size": 2, "out_hidden_size": 64, "num_position_embeddings": 49,
        "deepstack_visual_indexes": list(deepstack),
    }  # fmt: skip
    text, vision = {**text, **sizes.get("text_config", {})}, {**vision, **sizes.get("vision_config", {})}
    return {
        "model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "dtype": "bfloat16",
        "text_config": text, "vision_config": vision, "tie_word_embeddings": tied,
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip


def _generation(tokenizer: Tokenizer) -> dict[str, object]:
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    return {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0,
            "eos_token_id": ends, "pad_token_id": ends[1]}  # fmt: skip


def _preprocessing() -> dict[str, object]:
    return {"size": {"shortest_edge": 4096, "longest_edge": 1048576}, "patch_size": 16, "temporal_patch_size": 2,
            "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"}  # fmt: skip


def _random_weights(config: dict[str, object], tied: bool, seed: int) -> dict[str, torch.Tensor]:
    """Draw matrices of variance 1 / fan-in, embeddings and head of variance 1, norms around 1, and biases."""
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and not name.endswith(("embed_tokens.weight", "pos_embed.weight", "lm_head.weight")):
            value = value / parameter[0].numel() ** 0.5
        elif name.endswith("bias"):
            value = value * 0.1
        elif parameter.ndim == 1:
            value = 1 + 0.1 * value
        if tied and "embed_tokens" in name:
            value = value * TIED_EMBEDDING_SCALE
        weights[name] = value.to(torch.bfloat16)
    if tied:
        weights.pop("lm_head.weight", None)
    return weights


def _write_weights(folder: Path, weights: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return
    index = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(weights.items())[shard::shards])
        save_file(part, folder / name, {"format": "pt"})
        index.update(dict.fromkeys(part, name))
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
