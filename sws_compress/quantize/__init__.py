"""Quantization: weights as NumPy arrays in, palettes out. This room knows no torch, no ONNX and no files."""
