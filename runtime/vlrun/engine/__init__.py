"""The inference engine: continuous batching over a paged KV cache. Knows token ids, features and logits; no text, no
pixels.
"""
