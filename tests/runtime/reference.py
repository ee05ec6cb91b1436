"""Hugging Face transformers as the numerical reference: the same checkpoint in FP32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

from vlrun.engine.request import Request


class Reference:
    """A checkpoint loaded with transformers in FP32."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        size = json.loads((checkpoint / "preprocessor_config.json").read_text())["size"]
        # The Pillow processor takes its limits from arguments alone and ignores "size".
        self._processor = Qwen2VLImageProcessor.from_pretrained(
            checkpoint, min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"]
        )

    def logits(self, ids: Sequence[int], images: Sequence[Image.Image]) -> np.ndarray:
        """Return the logits after every token of one uncached forward pass, ``[T, vocab_rows]``."""
        with torch.no_grad():
            output = self.model(**self.inputs(ids, images))
        return output.logits[0].numpy()

    def greedy(self, request: Request, images: Sequence[Image.Image], vocab_size: int, penalty: float) -> list[int]:
        """Generate exactly ``max_tokens`` tokens greedily: no stop token, padding rows suppressed."""
        inputs = self.inputs(request.ids.tolist(), images)
        rows = self.model.config.text_config.vocab_size
        with torch.no_grad():
            ids = self.model.generate(
                **inputs,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=penalty,
                max_new_tokens=request.max_tokens,
                eos_token_id=rows,
                suppress_tokens=list(range(vocab_size, rows)),
            )
        return ids[0, len(request.ids) :].tolist()

    def inputs(self, ids: Sequence[int], images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return the keyword arguments of the model's forward pass."""
        tensor = torch.tensor([list(ids)])
        # Without an explicit mask transformers takes repeated M-RoPE positions for packed sequences.
        inputs = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
        if images:
            inputs |= self._processor(list(images), return_tensors="pt", input_data_format="channels_last")
        return inputs
