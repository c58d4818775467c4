"""A load budget: never exceeded where anything is within it, and spent where it saves most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sws_compress.codec.load_cost import UNLIMITED, LoadCost
from sws_compress.packing.budget import Options
from sws_compress.packing.pack import find_palettes, pack
from tests.onnx_io.models import as_ir, lenet


def random_options(seed, limit, streams=5, codes=4):
    """Streams whose smaller codes cost more to load; the first option is free."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(streams):
        size, load = random.integers(2_000, 30_000), random.uniform(0.2, 3)
        found = [(float(size), LoadCost(0.0, 0.0))]
        for _ in range(codes):
            size, load = size * random.uniform(0.5, 0.99), load * random.uniform(1.1, 2)
            found.append((float(size), LoadCost(load * random.uniform(0.5, 2), load)))
        rows.append(found)
    return Options.of(rows, limit)


def bytes_of(options, picks):
    return options.own_bytes[np.arange(len(picks)), picks].sum()


def cheapest(options):
    return (options.own_bytes + options.price() * options.shares).argmin(axis=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [LoadCost(9.0, 12.0), LoadCost(np.inf, 6.0), LoadCost(4.0, np.inf)])
def test_picks_are_within_the_limit_and_near_the_best(seed, limit):
    """Against all combinations: a price misses at most what a single stream can save, and filling makes up for some."""
    options = random_options(seed, limit)
    everything = map(np.array, itertools.product(range(5), repeat=5))
    best = min(bytes_of(options, picks) for picks in everything if options.within(picks))
    picks = cheapest(options)
    filled = options.filled(picks)
    assert options.within(picks)
    assert options.within(filled)
    assert best <= bytes_of(options, filled) <= bytes_of(options, picks)
    assert bytes_of(options, filled) < best + 0.5 * (options.own_bytes[:, 0] - options.own_bytes.min(axis=1)).max()


def test_without_a_limit_loading_has_no_price():
    options = random_options(0, UNLIMITED)
    assert options.price() == 0.0
    assert bytes_of(options, cheapest(options)) == options.own_bytes.min(axis=1).sum()


def test_where_nothing_is_within_the_limit_streams_are_loaded_for_least():
    options = random_options(0, LoadCost(0.0, 0.0))
    assert cheapest(options).tolist() == [0] * 5
    fast, slow = LoadCost(1.0, 2.0), LoadCost(2.0, 3.0)
    options = Options.of([[(70.0, fast), (60.0, fast), (50.0, slow)]] * 3, LoadCost(0.5, np.inf))
    assert cheapest(options).tolist() == [1] * 3, "the smaller of those that load for least"
    assert options.within(cheapest(options))


def test_nothing_is_filled_beyond_the_limit():
    options = random_options(3, LoadCost(9.0, 12.0))
    beyond = options.own_bytes.argmin(axis=1)
    assert not options.within(beyond)
    assert options.filled(beyond).tolist() == beyond.tolist()


def test_no_limit_leaves_tensors_dense_that_codes_make_smaller():
    model = as_ir(lenet(sizes=(60, 50, 40, 10), zeros=(0.0, 0.0, 0.0)))
    palettes = find_palettes(model)
    coded = {tensor.name for tensor in pack(model, palettes).tensors}
    for limit in (LoadCost(0.0, 0.0), LoadCost(1e-4, np.inf), LoadCost(np.inf, 1e5)):
        found = pack(model, palettes, load_limit=limit).tensors
        assert {tensor.name for tensor in found} == coded
    assert {tensor.encoding for tensor in pack(model, palettes, load_limit=LoadCost(0.0, 0.0)).tensors} == {"radix"}


def test_a_model_spends_what_one_tensor_leaves_on_the_others():
    """A third of the load of the smallest file is not a third for every tensor."""
    model = as_ir(lenet(sizes=(200, 150, 100, 10), zeros=(0.0, 0.0, 0.0)))
    palettes = find_palettes(model)

    def packed(limit):
        found = pack(model, palettes, load_limit=limit)
        loads = {tensor.members: tensor.load for tensor in found.tensors}.values()
        return len(found.data), sum(load.seconds for load in loads), sum(load.peak_bytes for load in loads)

    smallest = packed(UNLIMITED)
    sizes = []
    for part in (1.0, 0.8, 0.6, 0.4):
        limit = LoadCost(part * smallest[1], part * smallest[2])
        size, *load = packed(limit)
        assert LoadCost(*load).within(limit)
        sizes.append(size)
    assert sizes[0] == smallest[0]
    assert sizes == sorted(sizes)
