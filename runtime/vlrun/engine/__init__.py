"""The inference engine: continuous batching over a paged KV cache. Handles token ids and tensors, no text or pixels."""
