"""generation_config.json: sampling settings and end tokens. ``null`` means not set."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from vlrun.manifest import GenerationDefaults
from vlrun.models.hf_config.chat_template import chat_template, end_token
from vlrun.models.hf_config.files import ConfigFiles
from vlrun.models.hf_config.json_section import Section
from vlrun.models.hf_config.model_config import CONFIG

GENERATION_CONFIG = "generation_config.json"

RECOMMENDED_PRESENCE_PENALTY = 1.5
"""From the model card of Qwen3-VL Instruct, whose generation_config.json lacks it (QwenLM/Qwen3-VL#1825)."""

MAX_END_TOKENS = 64


def generation_defaults(files: ConfigFiles) -> GenerationDefaults:
    """Return the sampling settings of generation_config.json. Missing keys are neutral; the default is greedy decoding.

    Sampling Instruct checkpoints without a presence penalty get the recommended one. Thinking checkpoints, recognized
    by ``<think>`` in the template, do not.
    """
    raw = _section(files)
    do_sample = raw.flag("do_sample", False)
    instruct = do_sample and "<think>" not in chat_template(files)
    defaults = GenerationDefaults(
        do_sample=do_sample,
        temperature=raw.number("temperature", 0, 100, 1.0),
        top_k=raw.integer("top_k", 0, default=0),
        top_p=raw.number("top_p", 0, 1, 1.0),
        min_p=raw.number("min_p", 0, 1, 0.0),
        repetition_penalty=raw.number("repetition_penalty", 0.01, 100, 1.0),
        presence_penalty=raw.number("presence_penalty", -2, 2, RECOMMENDED_PRESENCE_PENALTY if instruct else 0.0),
        frequency_penalty=raw.number("frequency_penalty", -2, 2, 0.0),
    )
    if defaults.top_p == 0:
        raise raw.wrong("top_p", "above 0")
    return defaults


def end_tokens(files: ConfigFiles, tokenizer: Tokenizer, vocab_size: int) -> tuple[int, ...]:
    """Return the ids that end an answer: of generation_config.json, else of config.json, else of the tokenizer."""
    config = Section(files, f"{CONFIG} of '{files.folder}'", files.json(CONFIG))
    for section in (_section(files), config.section("text_config"), config):
        ids = section.values.get("eos_token_id")
        if isinstance(ids, int) and not isinstance(ids, bool):
            return (section.integer("eos_token_id", 0, vocab_size - 1),)
        if ids is not None and ids != []:
            several = section.integers("eos_token_id", 0, vocab_size - 1)
            if len(several) > MAX_END_TOKENS:
                raise section.wrong("eos_token_id", f"at most {MAX_END_TOKENS} token ids")
            return tuple(several)
    name = end_token(files)
    token = None if name is None else tokenizer.token_to_id(name)
    if token is None:
        raise files.error(f"the {GENERATION_CONFIG} of '{files.folder}' has no eos_token_id, and no other file has")
    return (int(token),)


def _section(files: ConfigFiles) -> Section:
    raw: dict[str, Any] = files.json(GENERATION_CONFIG) if files.has(GENERATION_CONFIG) else {}
    return Section(files, f"{GENERATION_CONFIG} of '{files.folder}'", raw)
