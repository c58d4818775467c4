"""Palettes: tensors of few distinct values, as a codebook and one index per symbol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.entropy import entropy_bits
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.quantize.weight_scales import ChannelScales
from sws_compress.thresholds import MAX_CODEBOOK, MAX_EVEN_CODEBOOK

MAX_HALF_ERROR_SHARE = 1e-2
"""Squared error that a codebook of float16 may add, as a share of the error of clustering. The halves pay: in a tensor
of 1,000 weights, 256 of them save half a byte per weight, which at equal error is worth a factor of 256 in squared
error. With 16 components they add about a millionth."""


def half_rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values rounded to float16, in float32: infinite beyond its range, and without negative zeros."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32) + np.float32(0.0)  # -0.0 + 0.0 = 0.0


def in_half(palette: Palette, squared_error: float) -> Palette:
    """Palette with its codebook rounded to float16, if that adds next to nothing to the error of clustering.

    A file stores such a codebook in half the bytes. Entries are means of their members, so that rounding adds the
    squares of the entries' own errors.

    Parameters
    ----------
    palette : Palette
        Returned as it is if its codebook is not float32, or the rounded one would have entries twice.
    squared_error : float
        Error of clustering, summed over the tensor, in units of the weights squared.

    Returns
    -------
    Palette
        The same symbols, perhaps with another codebook.
    """
    if palette.codebook.dtype != np.float32:
        return palette
    rounded = half_rounded(palette.codebook)
    added = float((palette.counts @ np.square(rounded.astype(np.float64) - palette.codebook)).sum())
    if not added <= MAX_HALF_ERROR_SHARE * squared_error or len(np.unique(rounded, axis=0)) < len(rounded):
        return palette
    return replace(palette, codebook=rounded)


def index_type(entries: int) -> np.dtype[np.unsignedinteger]:
    """Type of the indices of a codebook: uint8, or uint16 for more than 256 entries."""
    return np.min_scalar_type(entries - 1)


def check_components(components: int) -> None:
    """Raise ArgumentError if ``components`` is not in 2 .. 256."""
    if components < 2:
        raise ArgumentError(f"components must be >= 2, got {components}: one is reserved for zero")
    if components > MAX_CODEBOOK:
        raise ArgumentError(f"components must be <= {MAX_CODEBOOK}, got {components}: indices are uint8")


FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Names of the types that a tensor may have; NumPy knows bfloat16 once ``ml_dtypes`` is imported."""


INTEGERS = (
    "bool", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
)  # fmt: skip
"""Names of the types of tensors that are packed as they are, and never clustered."""


CHUNK_ELEMENTS = 1 << 18
"""Values that are converted and compared at a time, so that little memory is needed beside the result."""


@dataclass(frozen=True, eq=False, repr=False)
class Palette:
    """A tensor of few distinct values, or few distinct vectors of d consecutive values.

    Parameters
    ----------
    codebook : ndarray, shape (k,), or (k, d) for vectors
        The values, 1 <= k <= 65,536, of the tensor's own type: one of FLOATS, or of INTEGERS.
    indices : ndarray, shape (n,), uint8, or uint16 if k > 256
        Codebook entry of each symbol, in C order.
    shape : tuple of int
        Shape of the tensor, which has n values, or n d.
    scales : ChannelScales, optional
        Factors of the tensor's slices. A value of the tensor is then the float32 product of entry and factor, rounded
        to the tensor's type; the codebook must be exact in float32.

    Raises
    ------
    ArgumentError
        If one of these rules is broken.

    Examples
    --------
    >>> import numpy as np
    >>> import sws_compress as sws
    >>> palette = sws.Palette(np.float32([0.0, 0.5, -1.0]), np.uint8([0, 1, 0, 2, 0, 0]), shape=(2, 3))
    >>> palette.expand()
    array([[ 0. ,  0.5,  0. ],
           [-1. ,  0. ,  0. ]], dtype=float32)
    >>> palette.counts.tolist(), round(palette.entropy_bits, 3)
    ([4, 1, 1], 1.252)
    """

    codebook: npt.NDArray[Any]
    indices: npt.NDArray[np.unsignedinteger]
    shape: tuple[int, ...]
    scales: ChannelScales | None = None

    def __post_init__(self) -> None:
        if self.codebook.dtype.name not in FLOATS + INTEGERS or self.codebook.ndim not in (1, 2):
            found = f"{self.codebook.dtype} {self.codebook.shape}"
            raise ArgumentError(f"codebook must hold numbers, of shape (k,) or (k, d), got {found}: convert it")
        if not 1 <= len(self.codebook) <= MAX_EVEN_CODEBOOK:
            raise ArgumentError(
                f"codebook must have 1 to {MAX_EVEN_CODEBOOK:,} entries, got {len(self.codebook):,}: "
                "indices are uint8 or uint16"
            )
        if self.indices.dtype != index_type(len(self.codebook)) or self.indices.ndim != 1:
            raise ArgumentError(
                f"indices must be {index_type(len(self.codebook))} of shape (n,), got {self.indices.dtype} "
                f"{self.indices.shape}: convert them"
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
        if self.codebook.dtype.name not in FLOATS:
            raise ArgumentError(
                f"codebook with scales must be floating-point, got {self.codebook.dtype}: leave them out"
            )
        with np.errstate(over="ignore"):
            single = self.codebook.astype(np.float32)
        if not np.array_equal(single.astype(self.codebook.dtype), self.codebook):
            raise ArgumentError(
                f"codebook with scales must be exact in float32, got {self.codebook.dtype}: round it first"
            )

    def __repr__(self) -> str:
        shape, zeros = "x".join(map(str, self.shape)) or "scalar", 100 * float(np.mean(self.expand() == 0))
        return f"<Palette {shape}: {len(self.codebook)} values, {zeros:.1f} % zeros>"

    @property
    def dimension(self) -> int:
        """Number of consecutive values that one index stands for, d."""
        return 1 if self.codebook.ndim == 1 else self.codebook.shape[1]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of symbols of each codebook entry, shape (k,)."""
        counts = np.zeros(len(self.codebook), np.int64)
        for start in range(0, self.indices.size, CHUNK_ELEMENTS):  # bincount would make int64 of all of them
            counts += np.bincount(self.indices[start : start + CHUNK_ELEMENTS], minlength=len(counts))
        return counts

    @property
    def table_numbers(self) -> int:
        """Numbers that a file stores beside the indices: codebook and scales."""
        return self.codebook.size + (0 if self.scales is None else self.scales.count)

    @property
    def entropy_bits(self) -> float:
        """Order-0 entropy of the indices, in bits per symbol; a symbol stands for d weights."""
        return entropy_bits(self.counts) / max(self.indices.size, 1)

    @property
    def zeros(self) -> float:
        """Share of the tensor's values that are exactly 0, 0 .. 1."""
        zeros_per_entry = (self.codebook.reshape(len(self.codebook), -1) == 0).sum(axis=1)
        return float(self.counts @ zeros_per_entry) / max(prod(self.shape), 1)

    def expand(self) -> npt.NDArray[Any]:
        """Values of the tensor, of the codebook's type and of ``shape``."""
        return self.part(0, prod(self.shape)).reshape(self.shape)

    def part(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Values ``expand().reshape(-1)[start:stop]``, without the others; d must divide ``start`` and ``stop``."""
        indices = self.indices[start // self.dimension : stop // self.dimension]
        values: npt.NDArray[Any] = self.codebook[indices].reshape(-1)
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
    """Palette that a tensor of few distinct values has already.

    Parameters
    ----------
    values : ndarray, any shape, one of FLOATS or INTEGERS
        The tensor.

    Returns
    -------
    Palette or None
        A palette of scalars that expands to the same bits. Its codebook is sorted; 0.0 and -0.0 are two entries, -0.0
        first. None if more than 256 bit patterns occur.

    Raises
    ------
    ArgumentError
        If the values have another type, or there are none.
    ModelError
        If a value is NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.name not in FLOATS + INTEGERS or values.size == 0:
        raise ArgumentError(f"values must be numbers and not empty, got {values.dtype} {values.shape}: convert them")
    flat = values.reshape(-1)
    if values.dtype.name in FLOATS:
        check_finite(flat)
    patterns = bit_patterns(flat)
    known = np.unique(patterns[:: max(1, patterns.size >> 12)])  # refuses ordinary tensors after 4096 values
    if len(known) > MAX_CODEBOOK:
        return None
    for start in range(0, patterns.size, CHUNK_ELEMENTS):
        chunk = patterns[start : start + CHUNK_ELEMENTS]
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
    for start in range(0, patterns.size, CHUNK_ELEMENTS):
        indices[start : start + CHUNK_ELEMENTS] = rank[np.searchsorted(known, patterns[start : start + CHUNK_ELEMENTS])]
    return Palette(codebook[order], indices, values.shape)


def bit_patterns(values: AnyArray) -> npt.NDArray[np.unsignedinteger]:
    """View of the same memory as unsigned integers of the same width, which tell 0.0 from -0.0."""
    patterns: npt.NDArray[np.unsignedinteger] = values.view(f"u{values.dtype.itemsize}")
    return patterns


def check_finite(values: AnyArray) -> None:
    """Raise ModelError if a value is NaN or infinite."""
    flat = values.reshape(-1)
    bad = sum(
        int((~np.isfinite(flat[start : start + CHUNK_ELEMENTS])).sum()) for start in range(0, flat.size, CHUNK_ELEMENTS)
    )
    if bad:
        raise ModelError(f"weights must be finite, got {bad} NaN or infinite of {flat.size}: repair the model first")
