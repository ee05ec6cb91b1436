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


def quantized_by(method: str) -> Callable[[dict[str, Any]], object]:
    return lambda config: config.update(quantization_config={"quant_method": method})


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


def make_integers(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        name = "model.language_model.layers.0.mlp.up_proj.weight"
        if name in tensors:
            tensors[name] = tensors[name].to(torch.int16)
            save_file(tensors, path)


def add_an_adapters_tensor(folder: Path) -> None:
    path = folder / SHARD
    save_file({**load_file(path), "model.language_model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(1)}, path)


def leave_only_an_adapter(folder: Path) -> None:
    only_pickles(folder)
    (folder / "adapter_model.safetensors").touch()


FAULTS: dict[str, tuple[Damage, str]] = {
    "adapter beside the base": (write("adapter_config.json", "{}"), "adapter that is not merged .*merge_and_unload"),
    "adapter alone": (
        leave_only_an_adapter,
        "adapter that is not merged",
    ),
    "adapter in the weights": (add_an_adapters_tensor, "adapter that is not merged"),
    "weights of integers": (make_integers, "has type I16, but only BF16, F16, F32"),
    "no layers": (edit("config.json", lambda c: c["text_config"].update(num_hidden_layers=0)), "between 1 and 1024"),
    "billions of layers": (
        edit("config.json", lambda c: c["text_config"].update(num_hidden_layers=2**31)),
        "num_hidden_layers .* must be a whole number between 1 and 1024, not 2147483648",
    ),
    "more layers than weights": (
        edit("config.json", lambda c: c["text_config"].update(num_hidden_layers=5)),
        "num_hidden_layers of .* is 5, but its weights have 4",
    ),
    "more blocks than weights": (
        edit("config.json", lambda c: c["vision_config"].update(depth=1000)),
        "depth of .* is 1000, but its weights have 5",
    ),
    "image token that is text": (edit("config.json", lambda c: c.update(image_token_id=7)), "no control token"),
    "eos beyond the vocabulary": (
        edit("generation_config.json", lambda c: c.update(eos_token_id=[-1])),
        "eos_token_id .* must be a list of whole numbers between 0 and",
    ),
    "vocabulary of 10^18": (
        edit("tokenizer.json", lambda t: t["model"]["vocab"].update(zzz=10**18)),
        r"tokenizer\.json of .* is broken",
    ),
    "images are not normalized": (
        edit("preprocessor_config.json", lambda c: c.update(do_normalize=False)),
        "do_normalize in the .* must be true",
    ),
    "images are scaled differently": (
        edit("preprocessor_config.json", lambda c: c.update(rescale_factor=1.0)),
        "rescale_factor .* must be 1/255",
    ),
    "other interpolation": (edit("preprocessor_config.json", lambda c: c.update(resample=2)), "must be 3 .bicubic"),
    "no config": (remove("config.json"), "has no config.json"),
    "config cut": (write("config.json", '{"model_type": '), "not valid JSON"),
    "config a list": (write("config.json", "[]"), "not a JSON object"),
    "mixture of experts": (
        edit("config.json", lambda c: c.update(model_type="qwen3_vl_moe")),
        "'qwen3_vl_moe', a mixture of experts; only the dense Qwen3-VL family .*: use one of these",
    ),
    "another family": (
        edit("config.json", lambda c: c.update(model_type="qwen2_5_vl")),
        "'qwen2_5_vl'; only the dense Qwen3-VL family .*: use one of these",
    ),
    **{
        method: (
            edit("config.json", quantized_by(method)),
            rf"already quantized \({name}\): use the original bf16 checkpoint, which 'vlrun export' quantizes",
        )
        for method, name in (("fp8", "FP8"), ("awq", "AWQ"), ("gptq", "GPTQ"), ("bitsandbytes", "bitsandbytes"))
    },
    "MLX": (edit("config.json", lambda c: c.update(quantization={"bits": 4})), "already quantized: use the original"),
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
    assert after.to_dict() == before.to_dict()


@pytest.mark.parametrize("value", [None, {}], ids=["null", "empty"])
def test_a_quantization_config_of_nothing_is_ignored(checkpoint: Path, value: object) -> None:
    edit("config.json", lambda c: c.update(quantization_config=value))(checkpoint)
    assert open_checkpoint(checkpoint).config.text_config.num_hidden_layers == 4


def test_only_known_keys_of_config_reach_transformers(checkpoint: Path) -> None:
    """Guards attn_implementation, which makes transformers fetch a kernel from a hub and run it."""
    hostile = {
        "attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel", "use_kernels": True,
        "auto_map": {"AutoConfig": "evil.Config"}, "trust_remote_code": True, "experts_implementation": "evil/kernel",
        "torch_dtype": "float8", "name_or_path": "evil/model", "pruned_heads": {"0": [1]}, "tp_plan": {"a": "b"},
    }  # fmt: skip
    before = open_checkpoint(checkpoint).config.to_dict()

    def change(config: dict[str, Any]) -> None:
        for section in (config, config["text_config"], config["vision_config"]):
            section.update(hostile)

    edit("config.json", change)(checkpoint)
    after = open_checkpoint(checkpoint).config
    assert after.to_dict() == before
    assert after._attn_implementation == after.text_config._attn_implementation == "sdpa"


def test_a_single_weight_file_has_priority_as_in_transformers(checkpoint: Path, tmp_path: Path) -> None:
    single = build_checkpoint(tmp_path / "single", tied=False, deepstack=(1, 2, 3), seed=4)
    (single / "model.safetensors").rename(checkpoint / "model.safetensors")
    assert {tensor.file for tensor in open_checkpoint(checkpoint).tensors.values()} == {"model.safetensors"}


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
