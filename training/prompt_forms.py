"""What clients put around a question: a system prompt, and text before the image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from training.templates import COMMON_WORDS

SYSTEMS = (
    "You are a helpful assistant.", "You are a helpful assistant", "You are an AI assistant.", "Answer briefly.",
    "You are a helpful AI assistant. Answer the user's questions.", "You are a shop assistant. Answer briefly.",
    "Be concise.", "Be short.", "You count things on shelves.", "You are Qwen, created by Alibaba Cloud.",
    "You are a helpful vision assistant. Answer questions about the image.", "You answer questions about pictures.",
    "Du bist ein hilfreicher Assistent.", "你是一个有用的助手。", "你是一个乐于助人的助手。", "请简短回答。",
    "你是商店的助手。请简短回答。", "你是人工智能助手。",
)  # fmt: skip
"""System prompts that clients send, mostly by default."""

ROLES = (
    "assistant", "shop assistant", "store clerk", "AI model", "chatbot", "expert", "vision model", "stock keeper",
    "analyst", "robot", "camera", "cashier", "librarian", "agent", "bot named Max", "teacher",
)  # fmt: skip
MANNERS = ("", "helpful ", "friendly ", "careful ", "precise ", "smart ", "polite ", "professional ")
RULES = (
    "Answer briefly.", "Be concise.", "Be precise.", "Do not explain.", "Look at the picture carefully.", "Be polite.",
    "Answer the question.", "Use the image.", "Keep answers short.", "Never make things up.", "Do not guess.",
    "Reply in the language of the user.", "Today is 2026-11-28.", "The user works in a shop.", "Follow the rules.",
    "Answer in one word if you can.", "Say only what you see.",
)  # fmt: skip
ZH_ROLES = ("助手", "商店店员", "图片分析员", "客服", "机器人", "仓库管理员", "专家")
ZH_RULES = ("请简短回答。", "回答要准确。", "不要解释。", "请仔细看图片。", "用用户的语言回答。", "不要猜测。")

HELD_OUT_SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "You are a warehouse assistant. Answer with as few words as possible.",
        "You are a helpful, respectful and honest assistant.",
        "Answer questions about the picture that the user shows you.",
    ),
    "zh": (
        "你是仓库的助手，请用最少的字回答。", "You are a vision-language model that speaks Chinese.",
        "你是一个专业的视觉助手。",
    ),
}  # fmt: skip
"""System prompts of the evaluation by language of the question; training never uses them."""

OPENINGS = (
    "Here is a picture.", "Here is an image:", "Look at this image.", "This is the picture:", "Image:",
    "请看这张图片。", "图片：", "Please look at this picture and answer.",
)  # fmt: skip
"""Text before an image whose question follows it."""

KNOWN_CHANCE, RANDOM_CHANCE = 0.4, 0.1
"""Probability of one of ``SYSTEMS``, and of random words; all others are a role with rules."""


def draw_system(rng: np.random.Generator) -> str:
    """Draw a short system prompt."""
    kind = rng.random()
    if kind < KNOWN_CHANCE:
        return str(rng.choice(SYSTEMS))
    if kind < KNOWN_CHANCE + RANDOM_CHANCE:
        return " ".join(str(rng.choice(COMMON_WORDS)) for _ in range(int(rng.integers(2, 16)))) + "."
    rules = int(rng.integers(0, 3))
    if rng.random() < 0.35:
        return f"你是{rng.choice(['', '一个', '一名'])}{rng.choice(ZH_ROLES)}。" + "".join(
            str(rule) for rule in rng.permutation(ZH_RULES)[:rules]
        )
    name = f"{rng.choice(MANNERS)}{rng.choice(ROLES)}"
    article = str(rng.choice(["an" if name[0].lower() in "aeio" else "a", "the"], p=[0.8, 0.2]))
    return " ".join([f"You are {article} {name}.", *(str(rule) for rule in rng.permutation(RULES)[:rules])])
