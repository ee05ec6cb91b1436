"""transformers on a checkpoint, in the precision that ``--setting`` names; and the course of all who speak its
interface.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2VLImageProcessor
from transformers.generation.streamers import BaseStreamer

from vlrun.bench.workload import QUESTIONS, TEXT, WARM_UP, Samples, arguments, image


class Moments(BaseStreamer):
    """When each token came; the prompt itself comes first."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002 - the interface is theirs
        """A token, or the prompt."""
        self.at.append(time.perf_counter())

    def end(self) -> None:
        """Nothing more."""


def run(model: Any, tokenizer: Any, processor: Any, samples: Samples, options: argparse.Namespace) -> None:
    """The course. ``processor``: of images alone; the prompt is Qwen's, by hand."""

    def ask(question: str, pil_image: object, tokens: int) -> list[float]:
        began = time.perf_counter()
        inputs: dict[str, Any] = {}
        seen = ""
        if pil_image is not None:
            pixels = processor(images=[pil_image], max_pixels=1280 * 32 * 32, return_tensors="pt")
            inputs = {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"]}
            count = int(pixels["image_grid_thw"].prod()) // 4
            seen = f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"
        prompt = f"<|im_start|>user\n{seen}{question}<|im_end|>\n<|im_start|>assistant\n"
        inputs |= tokenizer(prompt, return_tensors="pt")
        if tokens > 2:
            samples.add("prompt_tokens", inputs["input_ids"].shape[1])
        moments = Moments()
        model.generate(
            **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, streamer=moments,
        )  # fmt: skip
        return [at - began for at in moments.at[1:]]

    ask(TEXT, None, 1)
    samples.since_start("start_to_text")
    ask(QUESTIONS[0], image(WARM_UP), 2)
    for number in range(options.rounds):
        moments = ask(QUESTIONS[0], image(number), options.tokens)
        samples.add("ttft_new", moments[0])
        samples.add("tpot", (moments[-1] - moments[0]) / (len(moments) - 1))
        for question in QUESTIONS[1:]:
            samples.add("ttft_again", ask(question, image(number), 1)[0])
    samples.memory()
    samples.print()


def main() -> None:
    """Run the course with transformers itself."""
    options = arguments("The benchmark's course, run by transformers.")
    samples = Samples(options.began)
    from transformers import Qwen3VLForConditionalGeneration

    with samples.timed("load"):
        dtype = getattr(torch, options.setting or "float32")
        model = Qwen3VLForConditionalGeneration.from_pretrained(options.model, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    run(model, tokenizer, Qwen2VLImageProcessor.from_pretrained(options.model), samples, options)


if __name__ == "__main__":
    main()
