"""Sizes of tensors, in elements, at which something begins to pay, and of codebooks; each with its reason."""

from __future__ import annotations

SMALLEST_WEIGHT = 256
"""Smaller tensors are not clustered: their codebook would cost what it saves."""

SMALLEST_TRAINED_WEIGHT = 64
"""Smaller parameters are not trained as weights: few values of their own would cost what they save."""

SMALLEST_LOW_BIT_WEIGHT = 1024
"""Smaller matrices stay in float32 while others run in few bits: scales, zero points and padding would cost what the
bits save."""

SMALLEST_EXACT_TENSOR = 64
"""Smaller tensors that happen to have few distinct values are not packed: codebook and nodes would cost more."""

SMALLEST_EXACT_VECTOR = 8
"""Smaller vectors (biases, scales of norms) are not packed. Alone none of them would pay, but in one stream with others
they may."""

SMALLEST_BODY_CONSTANT = 64
"""Smaller floating-point constants stay in the body or function that holds them. Runtimes infer shapes in a body from
its constants, and every call names each additional input."""

SMALLEST_PACKED_TABLE = 1 << 16
"""Smaller embedding tables are decoded at load: a quarter of a megabyte is not worth the work at every look-up."""

SMALLEST_LISTED_TENSOR = 2
"""Single numbers belong to the graph; an inspection lists only what is larger."""

MAX_CODEBOOK = 256
"""Entries of a codebook at most that clustering makes, or that a tensor has already: indices are uint8."""

MAX_EVEN_CODEBOOK = 1 << 16
"""Entries of an even codebook at most: indices are uint16 where uint8 does not hold them."""
