"""Palette: a tensor of at most 256 distinct values, as a codebook and one index per symbol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.entropy import entropy_bits
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.quantize.scales import ChannelScales

HALF_SHARE = 1e-2
"""Squared error that a codebook of float16 may add, as a share of what clustering itself costs; half a byte a weight
would be a factor of 256, and in a tensor of 1,000 weights a codebook of 256 halves saves that. With 16 components it is
about a millionth."""


def half_rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest values of float16, in float32; infinite beyond its range, and no zero is negative."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32) + np.float32(0.0)  # -0.0 + 0.0 = 0.0


def in_half(palette: Palette, squared_error: float) -> Palette:
    """The palette with its codebook rounded to float16, which a file stores in half the bytes, where that adds next to
    nothing to ``squared_error``: entries are means, so it adds the squares of their own roundings."""
    if palette.codebook.dtype != np.float32:
        return palette
    rounded = half_rounded(palette.codebook)
    added = float((palette.counts @ np.square(rounded.astype(np.float64) - palette.codebook)).sum())
    if not added <= HALF_SHARE * squared_error or len(np.unique(rounded, axis=0)) < len(rounded):
        return palette
    return replace(palette, codebook=rounded)


def check_components(components: int) -> None:
    """Raise ArgumentError if ``components`` is not in 2 .. 256."""
    if components < 2:
        raise ArgumentError(f"components must be >= 2, got {components}: one is reserved for zero")
    if components > MAX_CODEBOOK:
        raise ArgumentError(f"components must be <= {MAX_CODEBOOK}, got {components}: indices are uint8")


MAX_CODEBOOK = 256
"""Indices are uint8."""


FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Names of the types a tensor may have; NumPy knows bfloat16 where ``ml_dtypes`` has been imported."""


CHUNK = 1 << 18
"""Values converted and compared together; bounds the memory beyond the result to a few MB."""


@dataclass(frozen=True, eq=False)
class Palette:
    """A tensor of few distinct values (d = 1) or few distinct rows of d consecutive values, slice by slice to scale.

    ``codebook`` (k,) or (k, d) of the tensor's own type, one of FLOATS, 1 <= k <= 256; ``indices`` (n,) uint8 into it,
    in C order; ``shape`` of the tensor, which holds n or n d values. With ``scales`` the tensor is the codebook's
    values times the scale of their slice: products of float32, rounded to the tensor's own type; the codebook is exact
    in float32 then.

    Raises ArgumentError where one of these rules is broken.
    """

    codebook: npt.NDArray[Any]
    indices: npt.NDArray[np.uint8]
    shape: tuple[int, ...]
    scales: ChannelScales | None = None

    def __post_init__(self) -> None:
        if self.codebook.dtype.name not in FLOATS or self.codebook.ndim not in (1, 2):
            found = f"{self.codebook.dtype} {self.codebook.shape}"
            raise ArgumentError(f"codebook must be floating-point of shape (k,) or (k, d), got {found}: convert it")
        if not 1 <= len(self.codebook) <= MAX_CODEBOOK:
            raise ArgumentError(f"codebook must have 1 to 256 entries, got {len(self.codebook)}: indices are uint8")
        if self.indices.dtype != np.uint8 or self.indices.ndim != 1:
            raise ArgumentError(
                f"indices must be uint8 of shape (n,), got {self.indices.dtype} {self.indices.shape}: convert them"
            )
        if self.indices.size and int(self.indices.max()) >= len(self.codebook):
            raise ArgumentError(
                f"indices must be < {len(self.codebook)}, got {self.indices.max()}: the codebook has no such entry"
            )
        if prod(self.shape) != self.indices.size * self.dimension:
            raise ArgumentError(
                f"shape must hold {self.indices.size * self.dimension} values, got {self.shape}: "
                "one index stands for d values"
            )
        if self.scales is not None:
            self._check_scales(self.scales)

    def _check_scales(self, scales: ChannelScales) -> None:
        scales.check_fit(self.shape)
        with np.errstate(over="ignore"):
            single = self.codebook.astype(np.float32)
        if not np.array_equal(single.astype(self.codebook.dtype), self.codebook):
            raise ArgumentError(
                f"codebook with scales must be exact in float32, got {self.codebook.dtype}: round it first"
            )

    @property
    def dimension(self) -> int:
        """d, the number of consecutive values one index stands for."""
        return 1 if self.codebook.ndim == 1 else self.codebook.shape[1]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many symbols use each codebook entry, shape (k,)."""
        counts = np.zeros(len(self.codebook), np.int64)
        for start in range(0, self.indices.size, CHUNK):  # bincount would make int64 of all of them
            counts += np.bincount(self.indices[start : start + CHUNK], minlength=len(counts))
        return counts

    @property
    def table_numbers(self) -> int:
        """Numbers that a file stores beside the indices: codebook and scales."""
        return self.codebook.size + (0 if self.scales is None else self.scales.count)

    @property
    def entropy_bits(self) -> float:
        """Order-0 entropy of the indices, in bits per symbol (one symbol stands for d weights)."""
        return entropy_bits(self.counts) / max(self.indices.size, 1)

    @property
    def zeros(self) -> float:
        """Share of the tensor's values that are exactly zero, 0 .. 1."""
        zeros_per_entry = (self.codebook.reshape(len(self.codebook), -1) == 0).sum(axis=1)
        return float(self.counts @ zeros_per_entry) / max(prod(self.shape), 1)

    def expand(self) -> npt.NDArray[Any]:
        """The tensor, of the codebook's type and of ``shape``, bit for bit."""
        return self.part(0, prod(self.shape)).reshape(self.shape)

    def part(self, start: int, stop: int) -> npt.NDArray[Any]:
        """``expand().reshape(-1)[start:stop]`` alone; d must divide ``start`` and ``stop``."""
        values = self.codebook[self.indices[start // self.dimension : stop // self.dimension]].reshape(-1)
        if self.scales is None or not values.size:
            return values
        factors = self.scales.part(self.shape, start, stop)
        with np.errstate(over="ignore"):
            product: npt.NDArray[Any] = np.multiply(values, factors, dtype=np.float32, casting="unsafe")
            return product.astype(values.dtype)


@dataclass(frozen=True, eq=False)
class Clustering:
    """A clustered tensor.

    Parameters
    ----------
    palette : Palette
        The values it has now.
    mixture : Mixture or None
        The mixture that the palette came from; None if the tensor had few distinct values before, and kept them.
    """

    palette: Palette
    mixture: Mixture | None


def palette_of(values: AnyArray) -> Palette | None:
    """The palette that ``values`` (one of FLOATS, any shape) already have, or None if more than 256 bit patterns occur.

    Exact: 0.0 and -0.0 are two entries, `expand` returns the same bits, and the codebook is sorted, -0.0 first. Only
    scalar palettes are looked for (d = 1).

    Raises ArgumentError on another dtype or an empty array, ModelError if a value is NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.name not in FLOATS or values.size == 0:
        raise ArgumentError(
            f"values must be floating-point and not empty, got {values.dtype} {values.shape}: convert them"
        )
    flat = values.reshape(-1)
    check_finite(flat)
    patterns = bit_patterns(flat)
    known = np.unique(patterns[:: max(1, patterns.size >> 12)])  # an ordinary tensor is refused here, after 4096 values
    if len(known) > MAX_CODEBOOK:
        return None
    for start in range(0, patterns.size, CHUNK):
        chunk = patterns[start : start + CHUNK]
        found = known[np.minimum(np.searchsorted(known, chunk), len(known) - 1)]
        new = chunk[found != chunk]
        if new.size:
            known = np.union1d(known, new)
            if len(known) > MAX_CODEBOOK:
                return None
    indices = np.empty(patterns.size, np.uint8)
    codebook = known.view(values.dtype)
    order = np.lexsort((~np.signbit(codebook), codebook.astype(np.float64)))
    rank = np.empty(len(order), np.uint8)
    rank[order] = np.arange(len(order), dtype=np.uint8)
    for start in range(0, patterns.size, CHUNK):
        indices[start : start + CHUNK] = rank[np.searchsorted(known, patterns[start : start + CHUNK])]
    return Palette(codebook[order], indices, values.shape)


def bit_patterns(values: AnyArray) -> npt.NDArray[np.unsignedinteger]:
    """The same memory as unsigned integers of the same width: what tells 0.0 from -0.0."""
    patterns: npt.NDArray[np.unsignedinteger] = values.view(f"u{values.dtype.itemsize}")
    return patterns


def check_finite(values: AnyArray) -> None:
    flat = values.reshape(-1)
    bad = sum(int((~np.isfinite(flat[start : start + CHUNK])).sum()) for start in range(0, flat.size, CHUNK))
    if bad:
        raise ModelError(f"weights must be finite, got {bad} NaN or infinite of {flat.size}: repair the model first")
