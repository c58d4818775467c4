"""Tables of bins: optimal for one class, shared where that costs less, complete."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec.gap_tables import BIN_BITS, gap_tables
from tests.codec import reference


def bits_of(table, gaps):
    number = np.searchsorted(table.bases, gaps, side="right")
    return number.sum() + np.array(table.low_bits)[number - 1].sum() + BIN_BITS * len(table.low_bits)


@pytest.mark.parametrize("seed", range(4))
def test_one_class_gets_the_cheapest_table(seed):
    random = np.random.default_rng(seed)
    gaps = np.minimum(np.where(random.random(300) < 0.4, 1, random.geometric(0.1, 300)), 60)
    ((table,), numbers) = gap_tables([gaps])
    assert numbers == [0]
    assert bits_of(table, gaps) == reference.cheapest_table_bits(gaps.tolist(), 7, BIN_BITS)


def test_every_gap_has_a_bin():
    random = np.random.default_rng(0)
    classes = [random.geometric(share, 200) for share in (0.5, 0.01, 1e-4)]
    classes += [np.empty(0, np.int64), np.array([77777]), np.full(50, 300), np.arange(1, 301)]
    tables, numbers = gap_tables([np.asarray(one, np.int64) for one in classes])
    for gaps, number in zip(classes, numbers, strict=True):
        table = tables[number]
        assert (table.bases[-1] + (1 << table.low_bits[-1])) > max(gaps, default=0)
        assert table.bases[0] == 1
        assert np.array_equal(np.diff(table.bases), [1 << low for low in table.low_bits[:-1]])


def test_runs_and_columns_are_found():
    """Ones come in runs, and in the columns of an image 20 wide: much cheaper than the density tells."""
    gaps = np.array([1, 1, 1, 20, 1, 20, 1, 400] * 40)
    ((table,), _) = gap_tables([gaps])
    assert table.low_bits[0] == 0
    assert bits_of(table, gaps) < 0.6 * min(int(np.sum(-(-gaps >> k))) + k * gaps.size for k in range(9))


def test_classes_share_a_table_only_if_they_are_alike():
    random = np.random.default_rng(1)
    dense, again, thin = random.geometric(0.3, 400), random.geometric(0.3, 400), random.geometric(0.002, 400)
    tables, numbers = gap_tables([dense, thin, again])
    assert len(tables) == 2
    assert numbers[0] == numbers[2] != numbers[1]
    tables, _ = gap_tables([random.geometric(share, 50) for share in np.linspace(0.5, 0.01, 100)])
    assert 1 < len(tables) < 20
