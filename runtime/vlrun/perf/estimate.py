"""Estimates the tokens, memory and time of a request without loading the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from vlrun import manifest as manifests
from vlrun.backends.system_memory import BASE_MEMORY
from vlrun.layout import LAYOUTS, ONNX_RUNTIME
from vlrun.manifest import TextDimensions
from vlrun.models.model_folder import ModelFolder
from vlrun.perf.history import SpeedHistory
from vlrun.perf.profile import SpeedProfile
from vlrun.prompt.builder import PromptBuilder
from vlrun.prompt.chat_template import ChatTemplate
from vlrun.prompt.tokenizer import load_tokenizer
from vlrun.types.options import Options
from vlrun.types.turn import Turn
from vlrun.vision.encoder_queue import FEATURE_TOKENS

MIB = 2**20
MEMORY_PER_VISUAL_TOKEN = 280 * 1024
"""Vision encoder with a hidden size of 1,024, per visual token of the largest image (measured with 2B, 768 tokens)."""
SCALE_BYTES = 8
FLOAT_BYTES = {"f16": 2, "bf16": 2, "f32": 4}
ANSWER_TOKENS = 100
"""Assumed length of the answer."""


@dataclass(frozen=True)
class EstimatedImage:
    """Size in pixels after resizing, and visual tokens."""

    width: int
    height: int
    tokens: int


@dataclass(frozen=True)
class CostEstimate:
    """The estimated cost of a request.

    Attributes:
        prompt_tokens: Text and visual tokens.
        kv_memory: KV cache in bytes, with the answer.
        memory: Peak of the process in bytes.
        load: Seconds to load the model. Times are None if not measured on this machine.
        ttft: Seconds to the first token.
        answer: Seconds for ``ANSWER_TOKENS`` tokens.
        notes: Messages for the user about the images.
    """

    images: tuple[EstimatedImage, ...]
    prompt_tokens: int
    kv_memory: int
    memory: int
    load: float | None
    ttft: float | None
    answer: float | None
    notes: tuple[str, ...] = ()


def prompt_builder(folder: ModelFolder, history: SpeedHistory) -> PromptBuilder:
    """Return the prompt builder that a model of this folder has on this machine. Raises ModelError."""
    manifest = folder.manifest
    tokenizer = load_tokenizer(folder.read(manifests.TOKENIZER), folder)
    template = ChatTemplate(folder.chat_template(), tokenizer, manifest.tokens.image, manifest.tokens.video)
    return PromptBuilder(manifest, template, history.auto_image_tokens(time.time()))


def estimate_cost(
    folder: ModelFolder,
    turns: Sequence[Turn],
    options: Options,
    history: SpeedHistory,
    context: int | None,
    kv_precision: str,
) -> CostEstimate:
    """Estimate the cost of a request. Raises the errors that the request would raise."""
    manifest = folder.manifest
    speed = history.profile(time.time())
    builder = prompt_builder(folder, history)
    prompt = builder.build(turns, options)
    builder.check_context(prompt, context)
    patch = manifest.vision.patch
    images = tuple(EstimatedImage(g.width * patch, g.height * patch, g.tokens) for _, g in prompt.images)
    tokens = len(prompt.prompt.ids)
    at_once = sum(image.tokens for image in images) <= FEATURE_TOKENS  # the encoder is freed before the decoder runs
    weights = max(manifest.weight_bytes()) if at_once else sum(manifest.weight_bytes())
    largest = max((image.tokens for image in images), default=0)
    vision = largest * MEMORY_PER_VISUAL_TOKEN * manifest.vision.hidden // 1024
    precision = "f32" if LAYOUTS[manifest.layout].backend == ONNX_RUNTIME else kv_precision
    kv_memory = (tokens + ANSWER_TOKENS) * kv_bytes(manifest.text, precision)
    return CostEstimate(
        images,
        tokens,
        kv_memory,
        weights + kv_memory + BASE_MEMORY + vision,
        speed.load,
        _ttft(images, tokens, speed),
        None if speed.decode is None else speed.decode * ANSWER_TOKENS,
        prompt.notes,
    )


def kv_bytes(text: TextDimensions, precision: str) -> int:
    """Return the KV cache bytes per token: keys and values of all layers and heads; u8 adds scale and zero point."""
    per_head = text.head_dim + SCALE_BYTES if precision == "u8" else text.head_dim * FLOAT_BYTES[precision]
    return text.layers * text.kv_heads * 2 * per_head


def _ttft(images: Sequence[EstimatedImage], tokens: int, speed: SpeedProfile) -> float | None:
    vision = [speed.vision_seconds(image.tokens) for image in images]
    if speed.prefill is None or None in vision:
        return None
    return sum(seconds for seconds in vision if seconds is not None) + tokens * speed.prefill
