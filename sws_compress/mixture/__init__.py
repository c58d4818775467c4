"""Densities: weights as NumPy arrays in, Gaussian mixtures out. This room knows no torch, no ONNX and no files."""
