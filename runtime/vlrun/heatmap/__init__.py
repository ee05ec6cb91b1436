"""Attention of answer tokens on images, as heat maps. Optional: a backend that records no attention has none."""
