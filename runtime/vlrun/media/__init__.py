"""Bytes in, upright RGB out, within limits. Knows nothing of the model."""
