"""The workload with transformers on a checkpoint, in the precision that ``--setting`` names.

Also runs it for every library with the interface of transformers.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2VLImageProcessor
from transformers.generation.streamers import BaseStreamer

from vlrun.bench.workload import QUESTIONS, TEXT, WARM_UP_IMAGE, SampleWriter, image, parse_arguments


class ArrivalTimes(BaseStreamer):
    """Records when each token arrives; the first call is for the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002 - transformers' interface
        """Record a token or the prompt."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""


def run_workload(
    model: Any, tokenizer: Any, processor: Any, samples: SampleWriter, options: argparse.Namespace
) -> None:
    """Run the workload. ``processor`` handles only images; the prompt is written in Qwen's format here."""

    def ask(question: str, pil_image: object, tokens: int) -> list[float]:
        began = time.perf_counter()
        inputs: dict[str, Any] = {}
        visual = ""
        if pil_image is not None:
            pixels = processor(images=[pil_image], max_pixels=1280 * 32 * 32, return_tensors="pt")
            inputs = {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"]}
            count = int(pixels["image_grid_thw"].prod()) // 4
            visual = f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"
        prompt = f"<|im_start|>user\n{visual}{question}<|im_end|>\n<|im_start|>assistant\n"
        inputs |= tokenizer(prompt, return_tensors="pt")
        if tokens > 2:
            samples.add("prompt_tokens", inputs["input_ids"].shape[1])
        streamer = ArrivalTimes()
        model.generate(
            **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, streamer=streamer,
        )  # fmt: skip
        return [at - began for at in streamer.times[1:]]

    ask(TEXT, None, 1)
    samples.add_since_start("start_to_text")
    ask(QUESTIONS[0], image(WARM_UP_IMAGE), 2)
    for number in range(options.rounds):
        arrivals = ask(QUESTIONS[0], image(number), options.tokens)
        samples.add("ttft_new", arrivals[0])
        samples.add("tpot", (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1))
        for question in QUESTIONS[1:]:
            samples.add("ttft_again", ask(question, image(number), 1)[0])
    samples.add_memory()


def main() -> None:
    """Run the workload with transformers itself."""
    options = parse_arguments("The benchmark's workload, run by transformers.")
    samples = SampleWriter(options.began)
    from transformers import Qwen3VLForConditionalGeneration

    with samples.timed("load"):
        dtype = getattr(torch, options.setting or "float32")
        model = Qwen3VLForConditionalGeneration.from_pretrained(options.model, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    run_workload(model, tokenizer, Qwen2VLImageProcessor.from_pretrained(options.model), samples, options)


if __name__ == "__main__":
    main()
