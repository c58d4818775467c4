"""Values that move while assignments stay: gradients are those of autograd, and what must not move does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sws_compress.train.tuned_values import Members, TunedCodebook, TunedVector


def members(shape: tuple[int, int], entries: int, seed: int) -> Members:
    random = np.random.default_rng(seed)
    assignment = torch.from_numpy(random.integers(0, entries, shape).astype(np.int32))
    slices = torch.from_numpy(np.broadcast_to(np.arange(shape[0], dtype=np.int32)[:, None], shape).copy())
    return Members(torch.zeros(shape, requires_grad=True), assignment, slices)


@pytest.mark.parametrize("scaled", [True, False])
def test_gradients_are_those_of_autograd(scaled: bool) -> None:
    """Two tensors share the codebook and the scales, as the directions of a recurrent layer do."""
    codebook, factors = np.float32([-0.5, 0, 0.25, 1]), np.float32([1, 2, 0.5])
    held = [members((3, 5), 4, seed=1), members((3, 7), 4, seed=2)]
    if not scaled:
        held = [Members(each.tensor, each.assignment, None) for each in held]
    tuned = TunedCodebook(codebook, factors if scaled else None, held)
    tuned.write()
    wanted = [torch.from_numpy(np.random.default_rng(3).standard_normal(each.tensor.shape)).float() for each in held]
    sum((each.tensor * other).sum() for each, other in zip(held, wanted, strict=True)).backward()
    tuned.collect()
    moves = [torch.zeros(4, requires_grad=True), torch.zeros(3, requires_grad=True)]
    entries = torch.from_numpy(codebook) + 0.5 * torch.tensor([1.0, 0, 1, 1]) * moves[0]  # 1/2 is the median distance
    scales = torch.from_numpy(factors) * (1 + moves[1]) if scaled else torch.ones(3)
    total = sum(
        (entries[each.assignment.long()] * scales[:, None] * other).sum()
        for each, other in zip(held, wanted, strict=True)
    )
    total.backward()
    for move, other in zip(tuned.moves, moves, strict=False):
        torch.testing.assert_close(move.grad, other.grad)
    assert len(tuned.moves) == 1 + scaled
    assert all(each.tensor.grad is None for each in held)


def test_zero_stays_zero_and_other_entries_follow_their_moves() -> None:
    held = members((3, 50), 3, seed=1)
    tuned = TunedCodebook(np.float32([-1, 0, 2]), np.float32([1, 10, 100]), [held])
    for move in tuned.moves:
        move.fill_(0.1)
    tuned.write()
    wanted = np.float32([-0.85, 0, 2.15])[held.assignment] * np.float32([1.1, 11, 110])[:, None]
    np.testing.assert_allclose(held.tensor.detach().numpy(), wanted, rtol=1e-6)


def test_a_fixed_codebook_has_moves_of_scales_alone() -> None:
    tuned = TunedCodebook(np.float32([-1, 0, 1]), np.float32([1, 2, 3]), [members((3, 5), 3, seed=1)], fixed=True)
    (move,) = tuned.moves
    move.fill_(0.5)
    assert tuned.codebook.tolist() == [-1, 0, 1]
    assert tuned.factors is not None
    assert tuned.factors.tolist() == [1.5, 3, 4.5]


def test_a_vector_moves_by_its_root_mean_square() -> None:
    tensor = torch.tensor([3.0, -4.0, 0.0, 0.0], requires_grad=True)
    tuned = TunedVector(tensor)
    (tensor * torch.tensor([1.0, 0, 0, 2])).sum().backward()
    tuned.collect()
    (move,) = tuned.moves
    assert move.grad.tolist() == [2.5, 0, 0, 5]
    move.copy_(torch.tensor([0.0, 1, 0, 0]))
    tuned.write()
    assert tensor.tolist() == tuned.values.tolist() == [3, -1.5, 0, 0]
