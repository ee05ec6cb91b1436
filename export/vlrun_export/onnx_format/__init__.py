"""Model folders with ONNX graphs, for ONNX Runtime."""
