"""Qwen3-VL (dense): graphs of the vision encoder and the decoder, check prompt, reference by transformers."""
