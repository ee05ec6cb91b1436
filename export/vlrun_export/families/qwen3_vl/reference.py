"""The reference: transformers' model in float32 on the checkpoint's weights, with one layer in memory at a time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import count
from typing import Any

import torch
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding, Qwen3VLVisionRotaryEmbedding

from vlrun.vision.grid import Grid
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.checkpoint_contents import HEAD, TEXT_PREFIX, VISION_PREFIX
from vlrun_export.families.qwen3_vl.check_prompt import FloatArray, IntArray
from vlrun_export.progress import Report


@dataclass(frozen=True)
class Reference:
    """Output of transformers: ``features [1 + D, tokens, hidden]`` and ``logits [T, vocab_rows]``."""

    features: FloatArray
    logits: FloatArray


def run_reference(
    checkpoint: Checkpoint,
    ids: IntArray,
    patches: FloatArray,
    grid: Grid,
    report: Report = lambda fraction: None,
) -> Reference:
    """Run the prompt ``ids [T]`` with one image (``patches``, ``grid``) through transformers."""
    model = _streamed_model(checkpoint, report)
    features: list[torch.Tensor] = []
    model.model.visual.register_forward_hook(lambda module, inputs, output: features.append(_stacked(output)))
    with torch.inference_mode():
        output = model(**model_inputs(model, ids, patches, grid))
    return Reference(features[0].numpy(), output.logits[0].numpy())


def model_inputs(model: Any, ids: IntArray, patches: FloatArray, grid: Grid) -> dict[str, torch.Tensor]:
    """Return the arguments of transformers' model for a prompt with one image."""
    tokens = torch.from_numpy(ids)[None]
    inputs = {
        "input_ids": tokens,
        # Without a mask, transformers would treat repeated M-RoPE positions as packed sequences.
        "attention_mask": torch.ones_like(tokens),
        "pixel_values": torch.from_numpy(patches),
        "image_grid_thw": torch.tensor([[1, grid.height, grid.width]]),
    }
    if "mm_token_type_ids" in signature(type(model.model).forward).parameters:  # transformers 5
        inputs["mm_token_type_ids"] = (tokens == model.config.image_token_id).long()
    return inputs


def _stacked(output: Any) -> torch.Tensor:
    """Return the features ``[1 + D, tokens, hidden]``: a tuple in transformers 4, named outputs in transformers 5."""
    embeddings, deepstack = output if type(output) is tuple else (output.pooler_output, output.deepstack_features)
    return torch.stack([embeddings, *deepstack])


def _streamed_model(checkpoint: Checkpoint, report: Report) -> Any:
    config = copy.deepcopy(checkpoint.config)
    for part in (config, config.text_config, config.vision_config):
        part.dtype = torch.float32
        part._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config).eval()
    text, vision = model.model.language_model, model.model.visual
    text.rotary_emb = Qwen3VLTextRotaryEmbedding(config.text_config)
    vision.rotary_pos_emb = _vision_rotary(config.vision_config)
    parts: list[torch.nn.Module] = []
    for prefix, half in ((VISION_PREFIX, vision), (TEXT_PREFIX, text)):
        layers = _layers(half)
        for name, module in layers:
            _stream(module, checkpoint, f"{prefix}{name}.")
        parts += [module for _, module in layers]
    # Loaded now, because its device is read before it is called.
    checkpoint.load(vision.pos_embed, f"{VISION_PREFIX}pos_embed.", torch.float32)
    head = f"{TEXT_PREFIX}embed_tokens." if checkpoint.tied else HEAD.removesuffix("weight")
    _stream(model.lm_head, checkpoint, head)
    _report_calls([*parts, model.lm_head], report)
    return model


def _vision_rotary(config: Any) -> torch.nn.Module:
    """Return the rotary embedding with computed frequencies. Its argument is a width in transformers 4."""
    if "config" in signature(Qwen3VLVisionRotaryEmbedding.__init__).parameters:
        return Qwen3VLVisionRotaryEmbedding(config)
    return Qwen3VLVisionRotaryEmbedding(config.hidden_size // config.num_heads // 2)


def _layers(half: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Return the children of a half that have weights, with lists of layers split."""
    found = []
    for name, child in half.named_children():
        parts = child.named_children() if isinstance(child, torch.nn.ModuleList) else [("", child)]
        found += [(f"{name}.{part}".rstrip("."), module) for part, module in parts if module.state_dict()]
    return found


def _stream(module: torch.nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Load a module's weights when it is called, and drop them afterwards."""

    def load(called: torch.nn.Module, _: object) -> None:
        checkpoint.load(called, prefix, torch.float32)

    def drop(called: torch.nn.Module, _: object, __: object) -> None:
        called.to("meta")

    module.register_forward_pre_hook(load)
    module.register_forward_hook(drop)


def _report_calls(modules: Sequence[torch.nn.Module], report: Report) -> None:
    """Report after each call which fraction of the modules has been called."""
    calls = count(1)
    for module in modules:
        module.register_forward_hook(lambda *_: report(min(1.0, next(calls) / len(modules))))
