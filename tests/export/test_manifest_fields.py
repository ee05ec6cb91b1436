"""The manifest's fields come from the checkpoint's files, which are copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.small_models import CHAT_TEMPLATE, VOCAB_ROWS, build_checkpoint, build_tokenizer
from vlrun import manifest
from vlrun.errors import CheckpointError
from vlrun.manifest import GenerationDefaults
from vlrun.models.hf_config.chat_template import chat_template
from vlrun.models.hf_config.generation_config import end_tokens, generation_defaults
from vlrun.models.hf_config.manifest_fields import text_dimensions, vision_dimensions
from vlrun.models.hf_config.preprocessing import preprocessing
from vlrun.models.model_folder import ModelFolder
from vlrun_export.checkpoint import open_checkpoint
from vlrun_export.checkpoint_files import CheckpointFiles


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "checkpoint", tied=True, deepstack=(1, 2, 3), seed=4)


def generation(folder: Path, **settings: Any) -> GenerationDefaults:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, **settings}))
    return generation_defaults(CheckpointFiles(folder))


def test_an_exported_folder_matches_its_manifest(small_model: Path) -> None:
    opened = ModelFolder(small_model)
    opened.check_hashes()
    described = opened.manifest
    assert set(described.files) == {path.name for path in small_model.iterdir()} - {manifest.MANIFEST}
    assert {*manifest.REQUIRED, "config.json", "generation_config.json", "tokenizer_config.json"} <= set(
        described.files
    )


def test_dimensions_come_from_the_checkpoint(checkpoint: Path) -> None:
    """Guards against defaults of transformers' classes, which belong to another model."""
    opened = open_checkpoint(checkpoint)
    config = opened.contents.config
    text, vision = text_dimensions(opened.files, config, build_tokenizer()), vision_dimensions(config)
    assert (text.hidden, text.layers, text.heads, text.kv_heads, text.head_dim) == (64, 4, 4, 2, 32)
    assert (vision.hidden, vision.depth, vision.position_side, vision.deepstack) == (48, 5, 7, 3)
    assert text.vocab_rows == VOCAB_ROWS


def test_more_deepstack_levels_than_layers_are_refused_at_once(checkpoint: Path) -> None:
    """It was found after minutes, when the runtime refused to open the result."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 2
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"has 3 DeepStack levels, but text_config\.num_hidden_layers is 2"):
        open_checkpoint(checkpoint)


def test_padding_rows_are_not_counted_as_tokens(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint)
    text = text_dimensions(opened.files, opened.contents.config, build_tokenizer())
    assert text.vocab_size == build_tokenizer().get_vocab_size() < text.vocab_rows


def test_instruct_models_get_the_model_cards_presence_penalty(checkpoint: Path) -> None:
    """Guards against endless repetition: the published file lacks the value."""
    assert generation(checkpoint, do_sample=True, top_k=20).presence_penalty == 1.5


def test_other_models_get_no_presence_penalty(checkpoint: Path) -> None:
    """Greedy models, models that define it, and Thinking models."""
    assert generation(checkpoint, do_sample=False).presence_penalty == 0
    assert generation(checkpoint, do_sample=True, presence_penalty=0.2).presence_penalty == 0.2
    (checkpoint / "chat_template.jinja").write_text(CHAT_TEMPLATE + "<think>\n")
    assert generation(checkpoint, do_sample=True).presence_penalty == 0


def test_missing_generation_settings_stay_neutral(checkpoint: Path) -> None:
    """Guards against transformers' own default of top_k = 50."""
    assert generation(checkpoint) == GenerationDefaults(do_sample=False)


@pytest.mark.parametrize(("eos", "expected"), [(7, (7,)), ([7, 9], (7, 9))])
def test_one_or_several_end_tokens_are_read(checkpoint: Path, eos: int | list[int], expected: tuple[int, ...]) -> None:
    generation(checkpoint, eos_token_id=eos)
    assert end_tokens(CheckpointFiles(checkpoint), build_tokenizer(), 400) == expected


def without_end_tokens(checkpoint: Path) -> CheckpointFiles:
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": null}')
    return CheckpointFiles(checkpoint)


def change(checkpoint: Path, name: str, **values: Any) -> None:
    path = checkpoint / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_nulls_in_generation_config_mean_not_set(checkpoint: Path) -> None:
    """Transformers 4.57 writes them."""
    nulls = dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty"))
    assert generation(checkpoint, do_sample=True, **nulls) == GenerationDefaults(do_sample=True, presence_penalty=1.5)
    assert generation(checkpoint, do_sample=None) == GenerationDefaults(do_sample=False)


def test_end_tokens_fall_back_to_the_config_and_then_to_the_tokenizer(checkpoint: Path) -> None:
    """Transformers does so too; a fine-tune may lack the whole file."""
    files, tokenizer = without_end_tokens(checkpoint), build_tokenizer()
    end = tokenizer.token_to_id("<|im_end|>")
    assert end_tokens(files, tokenizer, 400) == (end,)
    change(checkpoint, "tokenizer_config.json", eos_token={"content": "<|endoftext|>", "special": True})
    assert end_tokens(files, tokenizer, 400) == (tokenizer.token_to_id("<|endoftext|>"),)
    change(checkpoint, "config.json", eos_token_id=[7, 9])
    assert end_tokens(files, tokenizer, 400) == (7, 9)
    text = json.loads((checkpoint / "config.json").read_text())["text_config"]
    change(checkpoint, "config.json", text_config=text | {"eos_token_id": 8})
    assert end_tokens(files, tokenizer, 400) == (8,)
    (checkpoint / "generation_config.json").unlink()
    assert end_tokens(files, tokenizer, 400) == (8,)


def test_processor_config_of_transformers_5_has_priority(checkpoint: Path) -> None:
    """A fine-tune may keep the preprocessor_config.json of its base model beside it."""
    vision = vision_dimensions(open_checkpoint(checkpoint).contents.config)
    old = json.loads((checkpoint / "preprocessor_config.json").read_text())
    (checkpoint / "processor_config.json").write_text(json.dumps({"processor_class": "Qwen3VLProcessor"}))
    assert preprocessing(CheckpointFiles(checkpoint), vision).max_pixels == old["size"]["longest_edge"]
    change(checkpoint, "processor_config.json", image_processor=old | {"max_pixels": 65536, "min_pixels": None})
    limits = preprocessing(CheckpointFiles(checkpoint), vision)
    assert (limits.min_pixels, limits.max_pixels) == (old["size"]["shortest_edge"], 65536)
    (checkpoint / "preprocessor_config.json").unlink()
    assert preprocessing(CheckpointFiles(checkpoint), vision) == limits


@pytest.mark.parametrize("place", ["chat_template.json", "tokenizer_config.json"])
def test_templates_inside_json_files_are_extracted(checkpoint: Path, tmp_path: Path, place: str) -> None:
    """Guards older checkpoints."""
    template = (checkpoint / "chat_template.jinja").read_text()
    (checkpoint / "chat_template.jinja").unlink()
    (checkpoint / place).write_text(json.dumps({"chat_template": template}))
    assert chat_template(CheckpointFiles(checkpoint)) == template


def test_min_pixels_and_max_pixels_are_read(checkpoint: Path) -> None:
    """Guards checkpoints without ``size``."""
    path = checkpoint / "preprocessor_config.json"
    value = json.loads(path.read_text())
    del value["size"]
    path.write_text(json.dumps({**value, "min_pixels": 1024, "max_pixels": 4096}))
    limits = preprocessing(CheckpointFiles(checkpoint), vision_dimensions(open_checkpoint(checkpoint).contents.config))
    assert (limits.min_pixels, limits.max_pixels) == (1024, 4096)
