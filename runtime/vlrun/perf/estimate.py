"""What a question will cost before it is asked: visual tokens, memory, and seconds on this box.

Knows a model's manifest and files, prompts and measured speeds; opens no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlrun import manifest as manifests
from vlrun.manifest import Manifest, TextDimensions
from vlrun.perf.profile import SpeedProfile, auto_image_tokens
from vlrun.prompt.builder import PromptBuilder
from vlrun.prompt.chat_template import ChatTemplate, load_tokenizer
from vlrun.types.options import Options
from vlrun.types.turn import Turn

MIB = 2**20
BASE_MEMORY = 400 * MIB
"""Of a process beside weights and cache: Python, OpenVINO and its compiled kernels, measured with the 2B model."""
MEMORY_PER_VISUAL_TOKEN = 280 * 1024
"""Of the vision encoder while it runs, by tokens of the largest image and per 1,024 of its width (2B, 768 tokens)."""
SCALE_BYTES = 8
FLOAT_BYTES = {"f16": 2, "bf16": 2, "f32": 4}
PLANNED_ANSWER = 100
"""Tokens of the answer that a plan reckons with."""


@dataclass(frozen=True)
class EstimatedImage:
    """Width and height as shown to the model, in pixels, and its visual tokens."""

    width: int
    height: int
    tokens: int


@dataclass(frozen=True)
class CostEstimate:
    """Tokens; ``memory`` and ``kv_memory`` in bytes, the first of the whole process at its peak; seconds of loading,
    until the first token of the answer, and of ``PLANNED_ANSWER`` tokens, None where this box was never seen at work;
    ``notes``: what there is to say about how the images will be shown.
    """

    images: tuple[EstimatedImage, ...]
    prompt_tokens: int
    kv_memory: int
    memory: int
    load: float | None
    ttft: float | None
    answer: float | None
    notes: tuple[str, ...] = ()


def plan(
    folder: Path, turns: Sequence[Turn], options: Options, speed: SpeedProfile, context: int | None, kv_precision: str
) -> CostEstimate:
    """Reckon what the model in ``folder`` needs for the answer to ``turns``. Raises as a question would."""
    manifest = manifests.read(folder)
    tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
    template = ChatTemplate(
        (folder / manifests.CHAT_TEMPLATE).read_text(encoding="utf-8"), tokenizer, manifest.tokens.image
    )
    builder = PromptBuilder(manifest, template, auto_image_tokens(speed))
    asked = builder.build(turns, options)
    builder.check_context(asked, context)
    patch = manifest.vision.patch
    images = tuple(EstimatedImage(g.width * patch, g.height * patch, g.tokens) for _, g in asked.images)
    tokens = len(asked.prompt.ids)
    kv_memory = (tokens + PLANNED_ANSWER) * kv_bytes(manifest.text, kv_precision)
    return CostEstimate(
        images,
        tokens,
        kv_memory,
        _weights(manifest) + kv_memory + BASE_MEMORY + _working(manifest, images),
        speed.load,
        _ttft(images, tokens, speed),
        None if speed.decode is None else speed.decode * PLANNED_ANSWER,
        asked.notes,
    )


def kv_bytes(text: TextDimensions, precision: str) -> int:
    """Of one token in the KV cache: key and value for each head and layer, at 8 bits with a scale and a zero point."""
    cell = text.head_dim + SCALE_BYTES if precision == "u8" else text.head_dim * FLOAT_BYTES[precision]
    return text.layers * text.kv_heads * 2 * cell


def _weights(manifest: Manifest) -> int:
    return sum(manifest.files[name].size for name in (manifests.DECODER_BIN, manifests.VISION_BIN))


def _working(manifest: Manifest, images: Sequence[EstimatedImage]) -> int:
    largest = max((image.tokens for image in images), default=0)
    return largest * MEMORY_PER_VISUAL_TOKEN * manifest.vision.hidden // 1024


def _ttft(images: Sequence[EstimatedImage], tokens: int, speed: SpeedProfile) -> float | None:
    seen = [speed.vision_seconds(image.tokens) for image in images]
    if speed.prefill is None or None in seen:
        return None
    return sum(seconds for seconds in seen if seconds is not None) + tokens * speed.prefill
