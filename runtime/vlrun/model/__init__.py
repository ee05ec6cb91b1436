"""Tensors on a device: patches, positions, the two compiled models. Knows neither text nor requests."""
