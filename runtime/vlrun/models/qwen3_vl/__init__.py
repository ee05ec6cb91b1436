"""Qwen3-VL: token positions, grounding format."""
