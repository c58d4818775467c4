"""Everything that runs ONNX Runtime."""
