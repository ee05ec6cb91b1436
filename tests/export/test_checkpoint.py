"""Checkpoints that cannot be exported are reported before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_models import build_checkpoint
from vlrun.errors import CheckpointError
from vlrun_export.checkpoint import open_checkpoint
from vlrun_export.export import export_checkpoint

Damage = Callable[[Path], object]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "checkpoint", tied=False, deepstack=(1, 2, 3), seed=3, shards=2)


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def write(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


SHARD = "model-00001-of-00002.safetensors"


def cut_shard(folder: Path) -> None:
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[: len(data) // 2])


def reshape_a_tensor(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if "model.language_model.norm.weight" in tensors:
            tensors["model.language_model.norm.weight"] = torch.ones(3)
            save_file(tensors, path)


def drop_a_tensor(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        tensors.pop("model.visual.merger.norm.bias", None)
        save_file(tensors, path)


def only_pickles(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").touch()


FAULTS: dict[str, tuple[Damage, str]] = {
    "no config": (remove("config.json"), "has no config.json"),
    "config cut": (write("config.json", '{"model_type": '), "not valid JSON"),
    "config a list": (write("config.json", "[]"), "not a JSON object"),
    "another family": (edit("config.json", lambda c: c.update(model_type="qwen3_vl_moe")), "only the dense Qwen3-VL"),
    "quantized": (edit("config.json", lambda c: c.update(quantization_config={"bits": 4})), "already quantized"),
    "no rope_theta": (edit("config.json", lambda c: c["text_config"].pop("rope_theta")), "text_config.rope_theta"),
    "no depth": (edit("config.json", lambda c: c["vision_config"].pop("depth")), "lacks vision_config.depth"),
    "yarn": (
        edit("config.json", lambda c: c["text_config"]["rope_scaling"].update(rope_type="yarn", factor=4.0)),
        "must be the default interleaved M-RoPE",
    ),
    "unknown activation": (
        edit("config.json", lambda c: c["text_config"].update(hidden_act="wide")),
        "transformers cannot build the model",
    ),
    "pickles only": (only_pickles, "no safetensors"),
    "shard missing": (remove(SHARD), f"lacks {SHARD}"),
    "shard cut": (cut_shard, "damaged or incomplete"),
    "index leaves the folder": (
        edit("model.safetensors.index.json", lambda c: c["weight_map"].update(x="../x.safetensors")),
        "outside of it",
    ),
    "head missing": (edit("config.json", lambda c: c["text_config"].update(vocab_size=450)), "has shape"),
    "tensor missing": (drop_a_tensor, r"lacks the tensor model\.visual\.merger\.norm\.bias"),
    "tensor of another shape": (reshape_a_tensor, r"requires \[64\]"),
    "no tokenizer": (remove("tokenizer.json"), r"lacks tokenizer\.json"),
    "tokenizer broken": (write("tokenizer.json", "{}"), r"tokenizer\.json of .* is broken"),
    "vocabulary too large": (
        edit("tokenizer.json", lambda t: t["model"]["vocab"].update(zzz=500)),
        "has 501 tokens, but the model has only 448",
    ),
    "no chat template": (remove("chat_template.jinja"), "no chat template"),
    "other patches": (
        edit("preprocessor_config.json", lambda c: c.update(patch_size=14)),
        "patch_size of .* in config.json, but 14 in preprocessor_config.json",
    ),
    "no limits": (edit("preprocessor_config.json", lambda c: c.pop("size")), "min_pixels"),
    "image_mean with two values": (
        edit("preprocessor_config.json", lambda c: c.update(image_mean=[0.5, 0.5])),
        "preprocessor_config",
    ),
    "no end token": (
        lambda folder: (
            remove("generation_config.json")(folder),
            edit("tokenizer_config.json", lambda c: c.pop("eos_token"))(folder),
        ),
        "no eos_token_id",
    ),
    "temperature is a string": (
        edit("generation_config.json", lambda c: c.update(temperature="hot")),
        "temperature in the .* must be a number",
    ),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_broken_checkpoint_is_reported_in_one_line(checkpoint: Path, tmp_path: Path, name: str) -> None:
    """Nothing is written."""
    damage, message = FAULTS[name]
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message) as caught:
        export_checkpoint(checkpoint, tmp_path / "out", check=False)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder at"):
        open_checkpoint(tmp_path / "nowhere")


def test_sharded_and_single_file_checkpoints_have_the_same_tensors(checkpoint: Path, tmp_path: Path) -> None:
    single = build_checkpoint(tmp_path / "single", tied=False, deepstack=(1, 2, 3), seed=3)
    assert open_checkpoint(single).tensors.keys() == open_checkpoint(checkpoint).tensors.keys()


@pytest.mark.parametrize(
    ("text", "top", "tied"), [(True, False, True), (False, True, False), (None, True, True), (None, None, False)]
)
def test_tied_embeddings_are_read_from_text_config_then_top_level_then_tensors(
    checkpoint: Path, text: bool | None, top: bool | None, tied: bool
) -> None:
    def change(config: dict[str, Any]) -> None:
        for section, value in ((config["text_config"], text), (config, top)):
            section.pop("tie_word_embeddings", None)
            if value is not None:
                section["tie_word_embeddings"] = value

    edit("config.json", change)(checkpoint)
    assert open_checkpoint(checkpoint).tied is tied


def test_rope_parameters_of_transformers_5_are_read(checkpoint: Path) -> None:
    before = open_checkpoint(checkpoint).config.text_config

    def change(config: dict[str, Any]) -> None:
        text = config["text_config"]
        text["rope_parameters"] = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}

    edit("config.json", change)(checkpoint)
    after = open_checkpoint(checkpoint).config.text_config
    assert (after.rope_theta, after.rope_scaling) == (before.rope_theta, before.rope_scaling)


def test_matrices_stay_bfloat16_and_vectors_become_float32(checkpoint: Path) -> None:
    """Guards the memory of an export: matrices are mapped, not copied."""
    opened = open_checkpoint(checkpoint)
    with torch.device("meta"):
        layer = torch.nn.LayerNorm(64, bias=False)
        linear = torch.nn.Linear(64, 96, bias=False)
    opened.load(layer, "model.language_model.layers.0.input_layernorm.")
    opened.load(linear, "model.language_model.layers.0.mlp.gate_proj.")
    assert layer.weight.dtype == torch.float32
    assert linear.weight.dtype == torch.bfloat16
