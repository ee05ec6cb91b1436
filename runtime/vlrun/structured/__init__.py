"""Structured output: JSON Schema and tool calls as grammars that constrain the sampler."""
