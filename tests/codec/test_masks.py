"""Masks of dead rows and columns: what is kept, what comes back, and when they pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.codec import NumpyOps
from sws_compress.codec.masks import Masks, slice_numbers, worthwhile_masks
from sws_compress.codec.tensors import tensor_candidates, unpack


def with_dead_slices(shape, dead, seed=0, fill=2):
    """Symbols 0..4; of every axis the listed slices hold only ``fill``."""
    symbols = np.random.default_rng(seed).choice(5, shape, p=[0.1, 0.1, 0.6, 0.1, 0.1]).astype(np.uint8)
    for axis, slices in enumerate(dead):
        symbols[(slice(None),) * axis + (slices,)] = fill
    return symbols


def test_the_numbers_of_slices():
    live = np.array([0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0], bool)
    bits, length = Masks(((0, live),)).arrays
    assert slice_numbers(NumpyOps(), bits, length).tolist() == [0, 1, 2, 0, 0, 3, 0, 0, 0, 4, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.data())
def test_slices_come_back_where_they_were(rank, data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(rank + 1))
    dead = [data.draw(st.lists(st.integers(0, size - 1), max_size=size)) for size in shape]
    symbols = with_dead_slices(shape, dead, data.draw(st.integers(0, 99)))
    fill = np.bincount(symbols.reshape(-1)).argmax()
    pairs = []
    for axis in range(rank + 1):
        live = (symbols != fill).any(axis=tuple(other for other in range(rank + 1) if other != axis))
        if not live.all():
            pairs.append((axis, live))
    masks = Masks(tuple(pairs))
    found = masks.compact(symbols)
    assert found.shape == masks.compact_shape(shape)
    for index, axis in enumerate(masks.axes):
        found = found.take(slice_numbers(NumpyOps(), *masks.arrays[2 * index : 2 * index + 2]), axis)
    assert np.array_equal(found, symbols)


@pytest.mark.parametrize("zero", [True, False])
def test_tensors_with_and_without_masks_share_a_stream(zero):
    weight = with_dead_slices((60, 83), [np.arange(5, 50), np.arange(0, 83, 2)])
    kernel = with_dead_slices((9, 40, 3, 5), [[], np.arange(40) % 4 > 0])
    bias = np.array([2, 1, 2, 2, 0], np.uint8)
    codebook = np.array([-3, -1, 0 if zero else 0.3, 2, 7], np.float32)
    members = [weight, bias, kernel]
    codes = tensor_candidates(members, codebook)
    assert {bool(code.masks) for code in codes} == {False, True}
    for code in codes:
        parts = unpack(NumpyOps(), code, tuple(member.shape for member in members))
        for part, member in zip(parts, members, strict=True):
            assert part.tobytes() == codebook[member].tobytes()
    best = {masked: min(c.payload_bytes for c in codes if bool(c.masks) == masked) for masked in (False, True)}
    assert best[True] < best[False]


def test_masks_only_where_they_pay():
    assert worthwhile_masks(with_dead_slices((40, 40), [[3, 7], [1, 2]])) is None
    assert worthwhile_masks(with_dead_slices((40, 4000), [[], []])) is None
    assert worthwhile_masks(np.full((400, 400), 3, np.uint8)) is None
    assert worthwhile_masks(np.arange(200).astype(np.uint8)) is None
    assert worthwhile_masks(np.empty((0, 7), np.uint8)) is None
    masks = worthwhile_masks(with_dead_slices((400, 83), [np.arange(30, 400), [4, 9]]))
    assert masks.axes == (0,)
