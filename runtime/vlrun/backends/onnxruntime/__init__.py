"""ONNX Runtime on the CPU, for model folders with ONNX graphs. Nothing else imports ONNX Runtime."""
