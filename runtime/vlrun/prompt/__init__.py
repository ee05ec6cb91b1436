"""Strings and ids: chat template, tokenizer, streaming text. Knows no device."""
