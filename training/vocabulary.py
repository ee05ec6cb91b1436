"""The tokenizer and chat template of the tiny model.

The tokenizer is a byte-level BPE of 1,024 entries with Qwen's control tokens. Digits and capital letters stand alone,
so that numbers and words are read character by character. It is trained on the questions about drawn scenes: a change
there or in the scenes changes the vocabulary, so a trained model keeps its own ``tokenizer.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.scene_questions import qa_pairs
from training.scenes import draw_scene
from training.templates import COMMON_WORDS, SELF

VOCABULARY = 1024
CORPUS_SCENES = 1500
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
PLAIN_ADDED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Control tokens that stay visible in decoded text, as in Qwen's tokenizer."""


def train_tokenizer(easy_questions: list[str]) -> Tokenizer:
    """Train the tokenizer on questions and answers about drawn scenes and on easy-VQA. The result is deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[0-9A-Z]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(PLAIN_ADDED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(easy_questions), trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in PLAIN_ADDED])
    return tokenizer


def _corpus(easy_questions: list[str]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(CORPUS_SCENES):
        domain = str(rng.choice(["shelf", "shapes", "tag", "sign"], p=[0.6, 0.25, 0.1, 0.05]))
        asked = qa_pairs(draw_scene(domain, (256, 256), rng), rng, added_templates=False)
        for _ in range(6):
            qa = next(asked)
            yield qa.question
            if qa.task != "read":
                yield qa.answer
    yield from easy_questions[::20]
    for questions, answer in SELF.values():
        yield from questions
        yield answer
    yield from [" ".join(COMMON_WORDS), "system\nuser\nassistant\n"] * 30


CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
