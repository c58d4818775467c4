"""The mixture room: NumPy arrays in, mixtures and palettes out; no torch, no onnx, no files."""
