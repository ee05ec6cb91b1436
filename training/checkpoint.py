"""Writes the trained model as a Hugging Face checkpoint folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration

from training.clips import RULES
from training.network import MERGE, PATCH
from training.scenes import MAX_PIXELS, MIN_PIXELS
from training.vocabulary import CHAT_TEMPLATE


def save_checkpoint(model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the folder, replacing an older one only when it is complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    weights = {name: value.detach().to(torch.float32).contiguous() for name, value in model.state_dict().items()}
    weights.pop("lm_head.weight")  # tied
    save_file(weights, part / "model.safetensors", {"format": "pt"})
    config = model.config.to_dict()
    config["architectures"] = ["Qwen3VLForConditionalGeneration"]
    _write(part / "config.json", config)
    tokenizer.save(str(part / "tokenizer.json"))
    (part / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    ends = [tokenizer.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>")]
    _write(part / "generation_config.json", {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[1]})
    _write(part / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"})
    both = {
        "patch_size": PATCH, "temporal_patch_size": 2, "merge_size": MERGE, "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3, "processor_class": "Qwen3VLProcessor",
    }  # fmt: skip
    images = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    _write(
        part / "preprocessor_config.json", {"size": images, "image_processor_type": "Qwen2VLImageProcessorFast"} | both
    )
    clips = {"shortest_edge": RULES.min_pixels, "longest_edge": RULES.max_pixels}
    sampling = {"fps": RULES.fps, "min_frames": RULES.min_frames, "max_frames": RULES.max_frames}
    video = {"size": clips, "video_processor_type": "Qwen3VLVideoProcessor"}
    _write(part / "video_preprocessor_config.json", video | sampling | both)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
