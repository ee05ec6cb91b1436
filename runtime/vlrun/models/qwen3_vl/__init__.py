"""Qwen3-VL: prompt, tool-call and grounding formats, position rules, recommended settings."""
