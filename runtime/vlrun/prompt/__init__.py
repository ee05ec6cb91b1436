"""Prompts from turns, and text from generated tokens: chat template, tokenizer, detokenizer. Knows no device."""
