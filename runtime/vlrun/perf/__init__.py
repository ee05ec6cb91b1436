"""Measured speed of a model on this machine, and cost estimates of requests."""
