"""Estimates the tokens, memory and time of a request without opening a device."""

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
"""Of a process without weights and KV cache: Python, OpenVINO and compiled kernels, measured with the 2B model."""
MEMORY_PER_VISUAL_TOKEN = 280 * 1024
"""Of the vision encoder: per visual token of the largest image and per 1,024 of its width (2B, 768 tokens)."""
SCALE_BYTES = 8
FLOAT_BYTES = {"f16": 2, "bf16": 2, "f32": 4}
ANSWER_TOKENS = 100
"""Assumed length of the answer."""


@dataclass(frozen=True)
class EstimatedImage:
    """Width and height in pixels as given to the model, and visual tokens."""

    width: int
    height: int
    tokens: int


@dataclass(frozen=True)
class CostEstimate:
    """The estimated cost of a request.

    Attributes:
        images: Size and visual tokens of each image.
        prompt_tokens: All tokens of the prompt.
        kv_memory: KV cache in bytes, with the answer.
        memory: Peak of the whole process in bytes.
        load: Seconds to load the model, like the others None if not measured on this machine yet.
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


def estimate_cost(
    folder: Path, turns: Sequence[Turn], options: Options, speed: SpeedProfile, context: int | None, kv_precision: str
) -> CostEstimate:
    """Estimate the cost of answering ``turns`` with the model in ``folder``. Raises as the request would."""
    manifest = manifests.read(folder)
    tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
    template = ChatTemplate(
        (folder / manifests.CHAT_TEMPLATE).read_text(encoding="utf-8"), tokenizer, manifest.tokens.image
    )
    builder = PromptBuilder(manifest, template, auto_image_tokens(speed))
    prompt = builder.build(turns, options)
    builder.check_context(prompt, context)
    patch = manifest.vision.patch
    images = tuple(EstimatedImage(g.width * patch, g.height * patch, g.tokens) for _, g in prompt.images)
    tokens = len(prompt.prompt.ids)
    kv_memory = (tokens + ANSWER_TOKENS) * kv_bytes(manifest.text, kv_precision)
    return CostEstimate(
        images,
        tokens,
        kv_memory,
        _weights(manifest) + kv_memory + BASE_MEMORY + _vision_memory(manifest, images),
        speed.load,
        _ttft(images, tokens, speed),
        None if speed.decode is None else speed.decode * ANSWER_TOKENS,
        prompt.notes,
    )


def kv_bytes(text: TextDimensions, precision: str) -> int:
    """Bytes per token in the KV cache: keys and values of all heads and layers; u8 adds a scale and a zero point."""
    per_head = text.head_dim + SCALE_BYTES if precision == "u8" else text.head_dim * FLOAT_BYTES[precision]
    return text.layers * text.kv_heads * 2 * per_head


def _weights(manifest: Manifest) -> int:
    return sum(manifest.files[name].size for name in (manifests.DECODER_BIN, manifests.VISION_BIN))


def _vision_memory(manifest: Manifest, images: Sequence[EstimatedImage]) -> int:
    largest = max((image.tokens for image in images), default=0)
    return largest * MEMORY_PER_VISUAL_TOKEN * manifest.vision.hidden // 1024


def _ttft(images: Sequence[EstimatedImage], tokens: int, speed: SpeedProfile) -> float | None:
    vision = [speed.vision_seconds(image.tokens) for image in images]
    if speed.prefill is None or None in vision:
        return None
    return sum(seconds for seconds in vision if seconds is not None) + tokens * speed.prefill
