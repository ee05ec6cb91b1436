"""Qwen3-VL: its prompt and tool-call formats, position rules, grounding format and recommended settings."""
