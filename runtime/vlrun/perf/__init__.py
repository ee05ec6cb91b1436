"""Measured speed of a model on this machine, and the estimated cost of a request."""
