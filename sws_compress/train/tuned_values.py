"""What can still move in a network whose weights are assigned: codebooks, scales, and vectors that stay dense.

Moves are relative: 1 moves an entry by the distance of its neighbours, doubles a scale, and moves a number of a vector
by their root mean square. So one learning rate fits all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from sws_compress.train.stages.hard_em import expanded, member_sums


class TunedValues(Protocol):
    """Values in a network that follow their moves."""

    moves: tuple[torch.Tensor, ...]

    def collect(self) -> None:
        """Set the gradients of the moves from those of the network's tensors, which are cleared."""

    def write(self) -> None:
        """Set the network's tensors from the moves."""


@dataclass(frozen=True, eq=False)
class Members:
    """A tensor of the network, whose elements are entries times factors.

    Parameters
    ----------
    tensor : torch.Tensor
        A leaf of the network, float32.
    assignment : torch.Tensor
        The entry of each element, int32, of the same shape.
    slices : torch.Tensor or None
        The factor of each element, int32, of the same shape; None without factors.
    """

    tensor: torch.Tensor
    assignment: torch.Tensor
    slices: torch.Tensor | None


class TunedCodebook:
    """A codebook and its scales: entries move along the summed gradient of their members; zero stays zero.

    Parameters
    ----------
    codebook : ndarray, shape (k,), float32
        Where the entries start.
    factors : ndarray, shape (n,), float32, or None
        Where the scales start.
    members : sequence of Members
        All tensors of the network that hold weights of it.
    fixed : bool
        Whether the entries stay, and only the scales move.

    Attributes
    ----------
    moves : tuple of tensor
        Those of the entries and of the scales.
    """

    def __init__(
        self,
        codebook: npt.NDArray[np.float32],
        factors: npt.NDArray[np.float32] | None,
        members: Sequence[Members],
        *,
        fixed: bool = False,
    ) -> None:
        device = members[0].tensor.device
        self._members = members
        self._entries = torch.tensor(codebook, device=device)
        gap = float(np.median(np.diff(np.sort(codebook)))) if len(codebook) > 1 else 0.0
        self._unit = torch.zeros_like(self._entries) if fixed else gap * (self._entries != 0).float()
        self._entry_moves = torch.zeros_like(self._entries)
        self._factors = None if factors is None else torch.tensor(factors, device=device)
        self._factor_moves = None if self._factors is None else torch.zeros_like(self._factors)
        self.moves: tuple[torch.Tensor, ...] = (
            *(() if fixed else (self._entry_moves,)),
            *(() if self._factor_moves is None else (self._factor_moves,)),
        )

    @property
    def codebook(self) -> torch.Tensor:
        """The entries now, shape (k,), float32."""
        return self._entries + self._unit * self._entry_moves

    @property
    def factors(self) -> torch.Tensor | None:
        """The scales now, shape (n,), float32; None without."""
        if self._factors is None or self._factor_moves is None:
            return None
        return self._factors * (1 + self._factor_moves)

    @torch.no_grad()
    def collect(self) -> None:
        """Sum the gradients of all members by entry and by scale."""
        codebook, factors = self.codebook, self.factors
        by_entry = torch.zeros_like(codebook, dtype=torch.float64)
        by_factor = None if factors is None else torch.zeros_like(factors, dtype=torch.float64)
        for each in self._members:
            gradient, each.tensor.grad = each.tensor.grad, None
            if gradient is None:
                continue
            if by_factor is not None and factors is not None and each.slices is not None:
                entries = expanded(codebook, each.assignment)
                by_factor += member_sums(gradient * entries, each.slices, len(factors))
                gradient = gradient * expanded(factors, each.slices)
            by_entry += member_sums(gradient, each.assignment, len(codebook))
        self._entry_moves.grad = (by_entry * self._unit).float()
        if by_factor is not None and self._factors is not None and self._factor_moves is not None:
            self._factor_moves.grad = (by_factor * self._factors).float()

    @torch.no_grad()
    def write(self) -> None:
        """Give every member its entry times its scale."""
        codebook, factors = self.codebook, self.factors
        for each in self._members:
            values = expanded(codebook, each.assignment)
            if factors is not None and each.slices is not None:
                values = values * expanded(factors, each.slices)
            each.tensor.copy_(values)


class TunedVector:
    """A tensor that stays dense, such as a bias, or the weight of a norm.

    Parameters
    ----------
    tensor : torch.Tensor
        A leaf of the network, float32, not all zero.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor, self._start = tensor, tensor.detach().clone()
        self._unit = float(self._start.square().mean().sqrt())
        self._move = torch.zeros_like(self._start)
        self.moves: tuple[torch.Tensor, ...] = (self._move,)

    @property
    def values(self) -> npt.NDArray[Any]:
        """The numbers now."""
        values: npt.NDArray[Any] = (self._start + self._unit * self._move).cpu().numpy()
        return values

    @torch.no_grad()
    def collect(self) -> None:
        """Take the gradient."""
        gradient, self._tensor.grad = self._tensor.grad, None
        self._move.grad = torch.zeros_like(self._move) if gradient is None else gradient * self._unit

    @torch.no_grad()
    def write(self) -> None:
        """Set the tensor."""
        self._tensor.copy_(self._start + self._unit * self._move)
