"""ONNX files that may be anything, read and checked."""
