"""One group in the hard stage: its M-step against loops, mergers, its state in a file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.ranks import ALONE
from sws_compress.train.select import ParameterGroup, select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.group_state import MEMBER_FIELDS, SHARED_FIELDS, GroupState
from sws_compress.train.stages.snapped import SnappedWeights
from tests import reference
from tests.train.staged import OPTIMIZERS, em_step, mixture, network, staged, train


def test_coded_bits_are_entropy_and_codebooks() -> None:
    model = network()
    stage = staged(model, sharing=Sharing.MODEL)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(2))
    em_step(stage, optimizer, 1e4)
    symbols = [k for assignment in stage.weights.states[0].assignment for k in assignment.reshape(-1).tolist()]
    wanted = len(symbols) * reference.entropy_bits(symbols) + 16 * len(set(symbols))
    assert stage.weights.coded_bits == pytest.approx(wanted)


def test_groups_of_other_shapes_are_not_mixed_up() -> None:
    """A group's members keep their own order and shapes: permuting members permutes results."""
    model = network()
    (group,) = select_parameters(model, sharing=Sharing.MODEL)
    flipped = ParameterGroup(group.label, group.names[::-1], group.parameters[::-1])
    results = []
    for each in (group, flipped):
        state = GroupState.start(each, mixture(7, 0.5))
        for _ in range(3):
            state.assign(1e-4)
            state.maximise(state.statistics(), 1e-4)
        results.append({name: state.snapped(i) for i, name in enumerate(each.names)})
    for name in group.names:
        torch.testing.assert_close(results[0][name], results[1][name])


def test_state_without_sensitivities() -> None:
    """A model without gradients yet: sensitivities are None, and stay so through a file."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    em_step(stage, optimizer, 1e4)
    assert stage.weights.states[0].sensitivity == [None]
    buffer = io.BytesIO()
    torch.save(stage.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    (state, *_) = SnappedWeights.restored(select_parameters(network()), saved["weights"]).states
    assert state.sensitivity == [None]
    assert torch.equal(state.assignment[0], stage.weights.states[0].assignment[0])


def group_of(*rows: list[float]) -> ParameterGroup:
    members = tuple(nn.Parameter(torch.tensor(row)) for row in rows)
    return ParameterGroup("group", tuple(f"{i}.weight" for i in range(len(rows))), members)


def codebook_of(*means: float) -> Mixture:
    count = len(means)
    return Mixture(np.full(count, 1 / count), np.array(means), np.full(count, 1e-3))


@pytest.mark.parametrize(("bit_price", "merges"), [(1 / 199.5, True), (1 / 200.5, False)])
def test_a_component_is_worth_a_hundred_bits(bit_price: float, merges: bool) -> None:
    """Two components of 50 weights each, 0.2 apart: merged they save 100 bits of entropy, and the component.

    That costs 50 * 50 / 100 * 0.2^2 = 1 of distortion, so that the two break even at 1 / 200.
    """
    group = group_of([0.0] * 300 + [5.0] * 50 + [5.2] * 50)
    state = GroupState.start(group, codebook_of(0.0, 5.0, 5.2))
    state.assign(1e-6)
    assert state.maximise(state.statistics(), bit_price)
    assert state.mergers == merges
    assert sorted(state.occupancy.tolist()) == ([0, 100, 300] if merges else [50, 50, 300])
    assert float(state.snapped(0).max()) == pytest.approx(5.1 if merges else 5.2)


def test_mean_of_a_merger_weighs_its_members() -> None:
    group = group_of([0.0] * 300 + [5.0] * 50 + [5.2] * 50)
    state = GroupState.start(group, codebook_of(0.0, 5.0, 5.2))
    state.sensitivity = [torch.cat([torch.ones(350), torch.full((50,), 3.0)])]
    state.assign(1e-6)
    state.maximise(state.statistics(), 1.0)
    assert float(state.snapped(0).max()) == pytest.approx((50 * 5.0 + 150 * 5.2) / 200)


def test_a_component_beside_zero_merges_into_zero() -> None:
    group = group_of([0.0] * 300 + [0.01] * 50 + [5.0] * 50)
    state = GroupState.start(group, codebook_of(0.0, 0.01, 5.0))
    state.assign(1e-9)
    state.maximise(state.statistics(), 1e-3)
    assert state.occupancy.tolist() == [350, 0, 50]
    assert state.codebook[0] == 0
    assert not state.snapped(0)[:350].any()


def test_weights_that_are_not_finite_leave_the_codebook_as_it_was() -> None:
    state = GroupState.start(group_of([0.0, 1.0, 2.0]), codebook_of(0.0, 1.0))
    state.latent[0][1] = torch.nan
    codebook, proportions = state.codebook.clone(), state.weights.clone()
    state.assign(1e-3)
    assert not state.maximise(state.statistics(), 1e-3)
    assert torch.equal(state.codebook, codebook)
    assert torch.equal(state.weights, proportions)


def test_empty_components_are_retired_until_the_next_m_step() -> None:
    state = GroupState.start(group_of([1.0] * 20 + [2.0] * 20), codebook_of(0.0, 1.0, 2.0, 1.1))
    state.assign(1e-9)
    state.maximise(state.statistics(), 0.0)
    assert state.occupancy.tolist() == [0, 20, 20, 0]
    state.retire_empty()
    assert (state.weights > 0).tolist() == [True, True, True, False]
    state.latent[0][0] = 1.1
    state.assign(1e-9)
    assert int(state.assignment[0][0]) == 1  # not 3, which is nearer
    state.maximise(state.statistics(), 0.0)
    assert (state.weights > 0).all()


def test_squares_are_a_running_sum() -> None:
    state = GroupState.start(group_of([0.0, 1.0]), codebook_of(0.0, 1.0))
    for gradient in ([1.0, 2.0], [3.0, 0.0]):
        state.add_square(0, torch.tensor(gradient, dtype=torch.float64))
    assert state.squares[0] is not None
    torch.testing.assert_close(state.squares[0], torch.tensor([0.99 + 9.0, 0.99 * 4.0]))


def test_mixture_has_the_spread_of_the_members() -> None:
    state = GroupState.start(group_of([0.1, -0.1, 0.3], [1.0, 1.4]), codebook_of(0.0, 1.2, 9.0))
    state.assign(1e-9)
    found = state.mixture(state.spread())
    np.testing.assert_allclose(found.means, [0.0, 1.2, 9.0], rtol=1e-6)
    zero, one = (0.01 + 0.01 + 0.09) / 3, 0.04
    pooled = (3 * zero + 2 * one) / 5  # of the component without members
    np.testing.assert_allclose(found.variances, [zero, one, pooled], rtol=1e-5)
    exact = GroupState.start(group_of([0.0, 0.0]), codebook_of(0.0, 1.0))
    assert exact.mixture(exact.spread()).variances.tolist() == [1e-12, 1e-12]


def test_restored_state_is_an_equal_copy() -> None:
    group = group_of([0.0, 1.0, 2.0], [1.5])
    state = GroupState.start(group, codebook_of(0.0, 1.0, 2.0))
    state.add_square(1, torch.tensor([0.5]))
    state.sensitivity[0] = torch.tensor([1.0, 2.0, 3.0])
    state.assign(1e-3)
    state.maximise(state.statistics(), 1e-3)
    state.mergers = 7
    other = GroupState.restored(state.saved(group, ALONE), group)
    assert other.mergers == 7
    assert other.counted == state.counted
    for name in (*MEMBER_FIELDS, *SHARED_FIELDS):
        mine, theirs = getattr(state, name), getattr(other, name)
        pairs = list(zip(mine, theirs, strict=True)) if isinstance(mine, list) else [(mine, theirs)]
        for one, two in pairs:
            assert (one is None) == (two is None)
            if one is not None:
                assert torch.equal(one, two)
                assert one.dtype == two.dtype
                two.add_(1)
                assert not torch.equal(one, two)
