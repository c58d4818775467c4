"""Rows and columns without information are left out: dead input pixels, dead units, unused channels.

A row of a matrix is a *slice* along axis 0. A slice is dead if all its symbols are the most frequent symbol of the
tensor. The code then holds a compact tensor, with the first dead slice and all live ones of every masked axis. One bit
for each slice says whether it is live. With l_i these bits, slice i of the tensor is slice ``l_i (l_0 + ... + l_i)`` of
the compact one. The bits of all masks of a stream lie end to end. Tensors may share a mask, such as the rows of one
layer and the columns of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, ArrayOps
from sws_compress.entropy import entropy_bits

_NEW_MASKS_BYTES = 100
"""Bytes of the file that the nodes take which undo masks."""

_SHARED_MASK_BYTES = 30
"""Bytes of a mask that another tensor of the stream has anyway: the node that applies it."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The live slices of a tensor.

    Parameters
    ----------
    live : tuple of (int, ndarray)
        Every masked axis, ascending, with a boolean vector: whether each of its slices is live.
    """

    live: tuple[tuple[int, npt.NDArray[np.bool_]], ...]

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, _ in self.live)

    def compact(self, symbols: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
        """The tensor with only the first dead slice and the live ones of every masked axis."""
        for axis, live in self.live:
            kept = np.concatenate([np.flatnonzero(~live)[:1], np.flatnonzero(live)])
            symbols = symbols.take(kept, axis)
        return symbols

    def replaced(self, axis: int, live: npt.NDArray[np.bool_]) -> Masks:
        """The same masks, but another one for ``axis``."""
        return Masks(tuple((other, live if other == axis else old) for other, old in self.live))

    def compact_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `compact` for a tensor of the given shape."""
        kept = {axis: 1 + int(np.count_nonzero(live)) for axis, live in self.live}
        return tuple(kept.get(axis, size) for axis, size in enumerate(shape))


def worthwhile_masks(symbols: npt.NDArray[np.unsignedinteger], known: Collection[bytes] = ()) -> Masks | None:
    """The masks that save most bytes, as estimated by the order-0 entropy.

    Parameters
    ----------
    symbols : ndarray, uint8 or uint16, any shape
        The tensor.
    known : collection of bytes
        Masks, as bytes, that are stored in any case.

    Returns
    -------
    Masks or None
        None if no masks save more than they take.
    """
    if symbols.ndim < 2 or symbols.size == 0:
        return None
    idle = symbols != np.bincount(symbols.reshape(-1)).argmax()
    axes = []
    for axis in range(symbols.ndim):
        live = idle.any(axis=tuple(other for other in range(symbols.ndim) if other != axis))
        if live.any() and np.count_nonzero(~live) > 1:
            axes.append((axis, live))
    best, least = None, _coded_bytes(symbols)
    for masks in _subsets(axes):
        stored = [live.size / 8 for _, live in masks.live if live.tobytes() not in known]
        cost = _coded_bytes(masks.compact(symbols)) + sum(stored) + _SHARED_MASK_BYTES * (len(masks.live) - len(stored))
        if stored:
            cost += _NEW_MASKS_BYTES
        if cost < least:
            best, least = masks, cost
    return best


def _subsets(axes: list[tuple[int, npt.NDArray[np.bool_]]]) -> Iterator[Masks]:
    for count in range(1, len(axes) + 1):
        yield from (Masks(chosen) for chosen in itertools.combinations(axes, count))


def _coded_bytes(symbols: npt.NDArray[np.unsignedinteger]) -> float:
    return entropy_bits(np.bincount(symbols.reshape(-1))) / 8


def numbered_masks(
    masks: Sequence[Masks | None],
) -> tuple[list[npt.NDArray[np.bool_]], tuple[tuple[tuple[int, int], ...], ...]]:
    """Number the masks of several tensors.

    Parameters
    ----------
    masks : sequence of (Masks or None)
        Masks of every tensor.

    Returns
    -------
    different : list of ndarray, bool
        Every mask once.
    numbers : tuple of tuple of (int, int)
        Masked axes of every tensor, each with the number of its mask.
    """
    different: dict[bytes, npt.NDArray[np.bool_]] = {}
    for mask in masks:
        for _, live in mask.live if mask else ():
            different.setdefault(live.tobytes(), live)
    order = list(different)
    numbers = tuple(
        tuple((axis, order.index(live.tobytes())) for axis, live in mask.live) if mask else () for mask in masks
    )
    return list(different.values()), numbers


def shared_masks(
    members: Sequence[npt.NDArray[np.unsignedinteger]], masks: Sequence[Masks | None]
) -> list[Masks | None]:
    """Masks of which more are shared: two of equal length become their union if that saves more than it costs.

    Parameters
    ----------
    members : sequence of ndarray, uint8 or uint16
        The tensors.
    masks : sequence of (Masks or None)
        Masks of every tensor.

    Returns
    -------
    list of (Masks or None)
        The new masks of every tensor.
    """
    found = {index: mask for index, mask in enumerate(masks) if mask}
    places = [(index, axis) for index, mask in found.items() for axis in mask.axes]
    for pair in itertools.combinations(places, 2):
        one, other = (dict(found[index].live)[axis] for index, axis in pair)
        if pair[0][0] == pair[1][0] or one.size != other.size or np.array_equal(one, other) or (one | other).all():
            continue
        joined = {index: found[index].replaced(axis, one | other) for index, axis in pair}
        before, after = (
            sum(_coded_bytes(those[index].compact(members[index])) for index in joined) for those in (found, joined)
        )
        if after - before < one.size / 8:
            found |= joined
    return [found.get(index) for index in range(len(masks))]


def slice_numbers(ops: ArrayOps[A], live: A) -> A:
    """Number of the compact tensor's slice that each slice of the tensor is, int64; ``live`` is int64 as well."""
    return ops.multiply(live, ops.cumulative_sum(live))
