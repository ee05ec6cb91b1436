"""The published files of Qwen3-VL-2B, which are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

PUBLISHED = Path(__file__).parents[2] / "shared" / "qwen3-vl-2b"

THINKING_TEMPLATE = PUBLISHED.parent / "qwen3-vl-thinking" / "chat_template.jinja"
CASES = PUBLISHED.parent / "cases"

needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the published tokenizer and template are not part of the repository"
)
