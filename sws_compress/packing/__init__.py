"""Which tensors share a stream, which code each stream gets, and the packed model."""
