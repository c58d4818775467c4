"""Short distillation: a network whose weights are assigned comes closer to the float one by what can still move.

There are no labels. The float network answers to the inputs and to mixtures of two of them, of which there are so many
that hardly anything is learned by heart. What is minimised is the squared error of the scores relative to their energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from sws_compress.train.stages.tune import codebook_optimizer
from sws_compress.train.tuned_values import TunedValues

MOST_STEPS = 150
"""Steps of the optimiser; twice as many bring outputs about a percent closer."""

MOST_OPERATIONS = 4e12
"""Floating-point operations of all steps, at most: two minutes or so on two cores. They are counted, so that a seed
gives one file however fast the machine is."""

FEWEST_STEPS = 10
"""Distillation of fewer steps is not worth its time."""

ROWS_PER_STEP = 32
"""Rows of inputs that a step sees, at least."""

STEPS_PER_CHECK = 25
"""Steps between two looks at the inputs that were held out."""

RATE, RATE_PER_ERROR = 5e-3, 0.1
"""Learning rate of the moves, at most, and for a relative error of 1. A step moves everything by about so much, which
must be less than what is wrong."""

PASSES_PER_STEP = 4
"""Passes forward that a step costs: one of the float network, and one of the other and its way back."""

LEAST_PROBABILITY = 1e-30
"""Probabilities count as at least this."""


@dataclass(frozen=True)
class Readout:
    """The last operator before an output: its scores are what goes into it.

    Parameters
    ----------
    operator : str
        "Softmax", "LogSoftmax", "Sigmoid", or any other, whose outputs are scores themselves.
    axis : int
        The classes of the first two.
    """

    operator: str = ""
    axis: int = -1

    def scores(self, output: torch.Tensor) -> torch.Tensor:
        """What went into the operator; up to a constant, in place of which the mean over the classes is 0."""
        if self.operator == "Sigmoid":
            return torch.logit(output, 1e-7)
        if self.operator == "Softmax":
            output = output.clamp_min(LEAST_PROBABILITY).log()
        elif self.operator != "LogSoftmax":
            return output
        return output - output.mean(dim=self.axis, keepdim=True)


@dataclass(frozen=True)
class Distilled:
    """What a distillation did.

    Parameters
    ----------
    steps : int
        Steps that it took to the best of what was seen; 0 if nothing was better.
    before, after : float
        Relative error of the scores on the inputs that were held out.
    """

    steps: int
    before: float
    after: float


def affordable_steps(network: nn.Module, arguments: tuple[Any, ...], together: int) -> int:
    """Steps of so many calls ``together`` that `MOST_OPERATIONS` allow, at most `MOST_STEPS`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*arguments)
    once = max(counter.get_total_flops(), 2 * sum(parameter.numel() for parameter in network.parameters()))
    return min(MOST_STEPS, int(MOST_OPERATIONS / (PASSES_PER_STEP * together * once)))


class Distillery:
    """A network, its teacher, and the inputs on which they are compared.

    Parameters
    ----------
    network, teacher : nn.Module
        The network, whose tensors follow ``tuned``, and the float one; both in evaluation mode.
    tuned : sequence of TunedValues
        What moves.
    readouts : sequence of Readout
        One for each tensor that the network returns.
    inputs, held_out : sequence of tuple
        Arguments of the calls: to learn from, and to judge by.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        tuned: Sequence[TunedValues],
        readouts: Sequence[Readout],
        inputs: Sequence[tuple[Any, ...]],
        held_out: Sequence[tuple[Any, ...]],
    ) -> None:
        self._network, self._teacher, self._tuned, self._readouts = network, teacher, tuned, readouts
        self._inputs, self._held_out = inputs, held_out
        self._wanted = [self._told(each) for each in held_out]
        energies = [[float(finite(part).square().sum()) for part in parts] for parts in self._wanted]
        self._energies = [math.fsum(each) for each in zip(*energies, strict=True)]
        self._per_call = [energy / len(held_out) for energy in self._energies]

    def run(self, steps: int, together: int, seed: int, on_step: Callable[[], None]) -> Distilled:
        """Take the steps, of so many calls each, and go back to the best of what was seen.

        Parameters
        ----------
        steps, together : int
            Steps, and calls of each.
        seed : int
            Seed of the order and of the mixtures.
        on_step : callable
            Called after every step.
        """
        random = torch.Generator().manual_seed(seed)
        moves = [move for each in self._tuned for move in each.moves]
        optimizer = codebook_optimizer(moves)
        before = best = self.error()
        kept, kept_steps = [move.clone() for move in moves], 0
        rate = min(RATE, RATE_PER_ERROR * before)
        for step in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - (step - 1) / steps)
            for first, second in torch.randint(len(self._inputs), (together, 2), generator=random).tolist():
                share = float(torch.rand((), generator=random))
                self._learn(mixed(self._inputs[first], self._inputs[second], share), together)
            self._move(optimizer)
            on_step()
            if step % STEPS_PER_CHECK and step < steps:
                continue
            error = self.error()
            if error < best:
                best, kept, kept_steps = error, [move.clone() for move in moves], step
        with torch.no_grad():
            for move, value in zip(moves, kept, strict=True):
                move.copy_(value)
        for each in self._tuned:
            each.write()
        return Distilled(kept_steps, before, best)

    @torch.no_grad()
    def error(self) -> float:
        """Relative error of the scores on the inputs that were held out."""
        totals = [0.0] * len(self._energies)
        for arguments, wanted in zip(self._held_out, self._wanted, strict=True):
            for number, (found, told) in enumerate(zip(self._scores(arguments), wanted, strict=True)):
                totals[number] += float(change(found, told).square().sum())
        shares = [total / energy for total, energy in zip(totals, self._energies, strict=True) if energy]
        mean = math.fsum(shares) / max(len(shares), 1)
        return math.sqrt(mean) if math.isfinite(mean) else math.inf

    def _move(self, optimizer: torch.optim.Optimizer) -> None:
        for each in self._tuned:
            each.collect()
        optimizer.step()
        for each in self._tuned:
            each.write()

    def _learn(self, arguments: tuple[Any, ...], together: int) -> None:
        """Add the gradients of one call."""
        wanted = self._told(arguments)
        energies = [energy for energy in self._per_call if energy]
        loss = torch.stack([
            change(found, told).square().sum() / energy
            for found, told, energy in zip(self._scores(arguments), wanted, self._per_call, strict=True)
            if energy
        ]).sum() / (len(energies) * together)  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _told(self, arguments: tuple[Any, ...]) -> list[torch.Tensor]:
        return scores(self._teacher(*arguments), self._readouts)

    def _scores(self, arguments: tuple[Any, ...]) -> list[torch.Tensor]:
        return scores(self._network(*arguments), self._readouts)


def scores(outputs: Any, readouts: Sequence[Readout]) -> list[torch.Tensor]:
    """The scores of all floating-point tensors that a network returns."""
    tensors = [each for each in pytree.tree_leaves(outputs) if isinstance(each, torch.Tensor)]
    return [
        readout.scores(tensor)
        for tensor, readout in zip(tensors, readouts, strict=True)
        if tensor.is_floating_point()
    ]  # fmt: skip


def finite(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values.isfinite(), values, 0.0)


def change(found: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """The difference where the float network's scores are finite."""
    return torch.where(told.isfinite(), found - told, 0.0)


def mixed(first: tuple[Any, ...], second: tuple[Any, ...], share: float) -> tuple[Any, ...]:
    """A share of the first arguments and the rest of the second; the first where they cannot be mixed."""
    pairs = list(zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=False))
    if not all(_can_be_mixed(*pair) for pair in pairs):
        return first
    leaves = [_blend(one, other, share) for one, other in pairs]
    mixed: tuple[Any, ...] = pytree.tree_unflatten(leaves, pytree.tree_structure(first))
    return mixed


def _can_be_mixed(one: Any, other: Any) -> bool:
    """Whether two leaves are alike, or floats of one shape."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return not isinstance(one, torch.Tensor) and not isinstance(other, torch.Tensor)
    return one.shape == other.shape and (one.is_floating_point() or torch.equal(one, other))


def _blend(one: Any, other: Any, share: float) -> Any:
    if not isinstance(one, torch.Tensor) or not one.is_floating_point():
        return one
    return other + share * (one - other)
