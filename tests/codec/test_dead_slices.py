"""Masks of dead rows and columns: what they keep, what they give back, and when they pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.codec import NumpyOps
from sws_compress.codec.transforms.dead_slices import (
    Masks,
    numbered_masks,
    shared_masks,
    slice_numbers,
    worthwhile_masks,
)
from sws_compress.codec.transforms.unpack import tensor_candidates, unpack


def with_dead_slices(shape, dead, seed=0, fill=2):
    """Symbols 0..4; the listed slices of every axis hold only ``fill``."""
    symbols = np.random.default_rng(seed).choice(5, shape, p=[0.1, 0.1, 0.6, 0.1, 0.1]).astype(np.uint8)
    for axis, slices in enumerate(dead):
        symbols[(slice(None),) * axis + (slices,)] = fill
    return symbols


def test_the_numbers_of_slices():
    live = np.array([0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0], bool)
    assert slice_numbers(NumpyOps(), live.astype(np.int64)).tolist() == [0, 1, 2, 0, 0, 3, 0, 0, 0, 4, 0]
    different, numbers = numbered_masks([None, Masks(((0, live),)), Masks(((0, live[:3]), (2, live)))])
    assert numbers == ((), ((0, 0),), ((0, 1), (2, 0)))
    assert [mask.size for mask in different] == [11, 3]


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
    for axis, live in masks.live:
        found = found.take(slice_numbers(NumpyOps(), live.astype(np.int64)), axis)
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


def test_rows_and_the_columns_of_the_next_layer_share_a_mask_where_that_pays():
    first = with_dead_slices((80, 50), [np.arange(20, 80), []])
    alike = with_dead_slices((30, 80), [[], np.arange(21, 80)], seed=1)
    other = with_dead_slices((30, 80), [[], np.arange(0, 60)], seed=1)
    live = np.arange(80) < 20
    for second, shared in ((alike, True), (other, False)):
        masks = [Masks(((0, live),)), Masks(((1, (second != 2).any(axis=0)),))]
        found = shared_masks([first, second], masks)
        assert np.array_equal(found[0].live[0][1], found[1].live[0][1]) == shared
        assert not shared or np.array_equal(found[0].live[0][1], np.arange(80) < 21)


def test_masks_only_where_they_pay():
    assert worthwhile_masks(with_dead_slices((40, 40), [[3, 7], [1, 2]])) is None
    assert worthwhile_masks(with_dead_slices((40, 4000), [[], []])) is None
    assert worthwhile_masks(np.full((400, 400), 3, np.uint8)) is None
    assert worthwhile_masks(np.arange(200).astype(np.uint8)) is None
    assert worthwhile_masks(np.empty((0, 7), np.uint8)) is None
    masks = worthwhile_masks(with_dead_slices((400, 83), [np.arange(30, 400), [4, 9]]))
    assert masks.axes == (0,)


def test_a_mask_that_is_stored_anyway_costs_little():
    """Few columns are live because few units are. The mask is worth its bits only if the layer before has it, too."""
    columns = with_dead_slices((4, 500), [[], np.arange(150, 500)])
    columns[0, :150] = 1
    assert worthwhile_masks(columns) is None
    rows = with_dead_slices((500, 300), [np.arange(150, 500), []])
    known = {live.tobytes() for _, live in worthwhile_masks(rows).live}
    masks = worthwhile_masks(columns, known)
    assert [(axis, live.tobytes() in known) for axis, live in masks.live] == [(1, True)]
    both = tensor_candidates([rows, columns], np.linspace(-1, 1, 5).astype(np.float32))
    assert any(all(code.masks) for code in both if code.masks)
