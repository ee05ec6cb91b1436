"""Inference backends, each behind the protocols of ``vlrun.engine``."""
