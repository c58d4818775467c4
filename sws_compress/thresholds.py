"""Sizes, in elements, from which a tensor is worth something; each with its reason."""

from __future__ import annotations

SMALLEST_WEIGHT = 256
"""Smaller tensors are not clustered: their codebook would cost what it saves."""

SMALLEST_LOW_BIT_WEIGHT = 1024
"""Smaller matrices stay in float32 where others run in few bits: scales, zero points and padding would cost what the
bits save."""

SMALLEST_EXACT_TENSOR = 64
"""Smaller tensors that happen to hold few distinct values are not packed: codebook and nodes would cost more."""

SMALLEST_EXACT_VECTOR = 8
"""The same for vectors (biases, scales of norms): alone they would not pay, but in one stream with others they may."""

SMALLEST_BODY_CONSTANT = 64
"""Smaller floating-point constants stay in the body or function that holds them. Runtimes infer shapes in a body from
the constants in it, and an additional input costs every call its name."""

SMALLEST_PACKED_TABLE = 1 << 16
"""Smaller embedding tables are decoded at load: a quarter of a megabyte is not worth work at every look-up."""

SMALLEST_LISTED_TENSOR = 2
"""Single numbers are part of the graph, not tensors that an inspection lists."""
