"""Palettes into a file: tensors that share a stream, the code of each stream, and the packed model."""
