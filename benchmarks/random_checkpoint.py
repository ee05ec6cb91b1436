"""Writes a random checkpoint in the published shapes of Qwen3-VL-2B-Instruct, to measure export and runtime without
weights.

The dimensions are those of the published configuration; tokenizer and chat template must be given, because they cannot
be shipped. Weights are drawn and written shard by shard, in bfloat16. Its answers are meaningless.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import tokenizers
import torch
from safetensors.torch import save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

SHARD_PARAMETERS = 400_000_000
COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
EMBEDDINGS = ("embed_tokens.weight", "pos_embed.weight", "lm_head.weight")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--tokenizer", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="Folder with tokenizer.json and chat_template.jinja of Qwen3-VL.")  # fmt: skip
@click.option("--layers", type=click.IntRange(3), default=28, show_default=True, help="Decoder layers.")
@click.option("--depth", default=24, show_default=True, help="Vision blocks.")
@click.option("--untied", is_flag=True, help="Separate output head, as in 8B.")
@click.option("--seed", default=0, show_default=True)
def main(out: Path, tokenizer: Path, layers: int, depth: int, untied: bool, seed: int) -> None:
    """Write a random checkpoint of the shapes of Qwen3-VL-2B to the folder OUT."""
    if out.exists():
        raise click.BadParameter(f"'{out}' exists already", param_hint="OUT")
    if not (tokenizer / "tokenizer.json").is_file():
        raise click.BadParameter(f"'{tokenizer}' holds no tokenizer.json", param_hint="--tokenizer")
    write_checkpoint(out, tokenizer, layers=layers, depth=depth, tied=not untied, seed=seed)


def write_checkpoint(out: Path, tokenizer: Path, *, layers: int, depth: int, tied: bool, seed: int) -> None:
    """Write configuration, tokenizer and random weights to ``out``. Peak memory is about one shard (0.8 GB)."""
    out.mkdir(parents=True)
    for name in COPIED:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)
    vocabulary = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    config = configuration(vocabulary, layers, depth, tied)
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", _generation(vocabulary))
    _write_json(out / "preprocessor_config.json", _preprocessing())
    _write_weights(out, config, tied, seed)


def configuration(vocabulary: tokenizers.Tokenizer, layers: int, depth: int, tied: bool) -> dict[str, Any]:
    """The config.json of the 2B model, with ``layers`` decoder layers and ``depth`` vision blocks."""
    text = {
        "model_type": "qwen3_vl_text", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "vocab_size": 151936, "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "attention_bias": False,
        "rope_theta": 5_000_000, "tie_word_embeddings": tied, "dtype": "bfloat16",
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]},
    }  # fmt: skip
    vision = {
        "model_type": "qwen3_vl", "depth": depth, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
        "hidden_act": "gelu_pytorch_tanh", "in_channels": 3, "patch_size": 16, "temporal_patch_size": 2,
        "spatial_merge_size": 2, "out_hidden_size": 2048, "num_position_embeddings": 48 * 48,
        "deepstack_visual_indexes": [index for index in (5, 11, 17) if index < depth],
    }  # fmt: skip
    return {
        "model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "tie_word_embeddings": tied,
        "text_config": text, "vision_config": vision,
        "image_token_id": vocabulary.token_to_id("<|image_pad|>"),
        "video_token_id": vocabulary.token_to_id("<|video_pad|>"),
        "vision_start_token_id": vocabulary.token_to_id("<|vision_start|>"),
        "vision_end_token_id": vocabulary.token_to_id("<|vision_end|>"),
    }  # fmt: skip


def _generation(vocabulary: tokenizers.Tokenizer) -> dict[str, Any]:
    ends = [vocabulary.token_to_id("<|im_end|>"), vocabulary.token_to_id("<|endoftext|>")]
    return {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0,
            "eos_token_id": ends}  # fmt: skip


def _preprocessing() -> dict[str, Any]:
    return {"size": {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}, "patch_size": 16,
            "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"}  # fmt: skip


def _write_weights(out: Path, config: dict[str, Any], tied: bool, seed: int) -> None:
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    shapes = {name: value.shape for name, value in model.named_parameters() if not (tied and name == "lm_head.weight")}
    shards = list(split_shards(shapes))
    generator = torch.Generator().manual_seed(seed)
    index = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: _draw(name, shapes[name], generator) for name in names}, out / file, {"format": "pt"})
        index.update(dict.fromkeys(names, file))
        click.echo(f"{file} written", err=True)
    size = 2 * sum(shape.numel() for shape in shapes.values())
    _write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})


def split_shards(shapes: dict[str, torch.Size]) -> Iterator[list[str]]:
    """Split the names, in order, into shards within the size limit."""
    names: list[str] = []
    left = SHARD_PARAMETERS
    for name, shape in shapes.items():
        if names and shape.numel() > left:
            yield names
            names, left = [], SHARD_PARAMETERS
        names.append(name)
        left -= shape.numel()
    yield names


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Variance 1 / fan-in for matrices; embeddings such that logits spread by about 4; norms one, biases zero."""
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    scale = (4 if name.endswith(EMBEDDINGS) else 1) / shape[1:].numel() ** 0.5
    return torch.randn(shape, generator=generator, dtype=torch.bfloat16).mul_(scale)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
