"""Which tensors share a stream of symbols, and which code every stream gets."""
