"""Measured speed of a model on this machine, and the cost of a request estimated from it."""
