"""One layer: its weights by output, the moment of its inputs, and what an error in each of its outputs costs.

Errors are counted relative to what a layer's output usually is. Output o of energy e_o = w_o H w_o^T costs
g_o = e_o^(-1/2) per unit of error energy. That lies between equal absolute errors, which starve the channels that
folded norms have made small, and equal relative ones, which spend bits on channels that hardly matter. Dividing each
row by f_o = (g_o c)^(-1/2), c the geometric mean curvature of its group, makes one step right for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sws_compress.calibrate.error_feedback import Feedback
from sws_compress.calibrate.grids import counts_of, even_codebook, nearest, shares_of, step_of
from sws_compress.calibrate.moments import Array, output_energy
from sws_compress.calibrate.repair import Means

LEAST_ENERGY = 1e-10
"""Energy that an output is taken to have at least, relative to the mean: dead outputs need no bits."""

RELATIVE = 0.5
"""The usual ``relative`` of a `Layer`."""

TRIAL_NOISE = 0.01
"""Energy of the trial error of a layer relative to its outputs, 20 dB below: about what coding will do to it. An
infinitesimal error would tell nothing of a classifier that is certain."""

FULL_HALVES = (2.0**-14, 65504.0)
"""Least and greatest factor: between them float16 has all its digits."""

SWEEPS = 2
"""Assignments, each at the prices of the shares that the one before it has left."""

SURVIVORS = 4
"""Ways to assign a row that the last sweep follows: twice as many save another percent of the bits."""

MOST_FOLLOWED_WEIGHTS = 1 << 18
"""Weights of a layer for which it does: it takes six times as long as a sweep that follows one."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Weights that were assigned to a codebook.

    Parameters
    ----------
    indices : ndarray, shape (groups, n, d), uint8, or uint16 if k > 256
    codebook : ndarray, shape (k,), float64
        Ascending; every entry is used.
    factors : ndarray, shape (groups, n), float32
        A weight is entry times factor; all 1 without scales.
    step : float
        Distance of neighbouring entries that the price asked for.
    """

    indices: npt.NDArray[np.unsignedinteger]
    codebook: Array
    factors: npt.NDArray[np.float32]
    step: float


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight as the matrices that multiply its inputs.

    Parameters
    ----------
    rows : ndarray, shape (groups, n, d), of the type of the moment
        Weights by output.
    moment : ndarray, shape (groups, d, d) or (groups, d), float64, or float32 for `WIDE_INPUTS`
        H of the inputs, positive definite, or its diagonal where it has no other entries.
    scaled : bool
        Whether every output may have a factor of its own.
    level : float
        What the network's outputs suffer per unit of the layer's weighted error energy.
    relative : float
        Exponent of an output's energy in what its error costs: 0 counts absolute errors, 1 relative ones.
    means : Means, optional
        Mean inputs, where a constant that is added to the outputs keeps their means; ``moment`` is then around them.
    shares : ndarray, shape (groups, n), optional
        How often each output is asked for, > 0, where that differs: costs are then their square roots.
    reach : int, optional
        Steps from 0 that codebooks have at most: words of 8 bits reach 127. Factors, or the step without them, become
        as large as that takes.
    """

    rows: Array
    moment: Array
    scaled: bool
    level: float = 1.0
    relative: float = RELATIVE
    means: Means | None = None
    shares: Array | None = None
    reach: int | None = None

    @cached_property
    def feedback(self) -> tuple[Feedback, ...]:
        """The feedback of each group."""
        return tuple(map(Feedback.of, self.moment))

    @cached_property
    def _energies(self) -> Array:
        """Energy of each output, shape (groups, n)."""
        return output_energy(self.rows, self.moment)

    @cached_property
    def costs(self) -> Array:
        """G of each output, shape (groups, n), with a geometric mean of 1; all 1 without scales."""
        energy = self._energies
        if not self.scaled or not energy.any():
            return np.ones(energy.shape)
        if self.shares is None:
            costs = np.maximum(energy, LEAST_ENERGY * energy.mean()) ** -self.relative
        else:
            costs = np.sqrt(self.shares)
        even: Array = costs / np.exp(np.log(costs).mean())
        return even

    @cached_property
    def row_curvatures(self) -> Array:
        """Geometric mean of the curvatures of each group, shape (groups,)."""
        return np.array([np.exp(np.log(feedback.curvatures).mean()) for feedback in self.feedback])

    @cached_property
    def factors(self) -> npt.NDArray[np.float32]:
        """Factor of each output, shape (groups, n), exact in float16."""
        if not self.scaled:
            return np.ones(self.rows.shape[:2], np.float32)
        factors = (self.costs * self.row_curvatures[:, None] / self._curvature) ** -0.5
        return np.clip(factors, *FULL_HALVES).astype(np.float16).astype(np.float32)

    @property
    def _curvature(self) -> float:
        """Geometric mean of the curvatures of all groups."""
        return float(np.exp(np.log(self.row_curvatures).mean()))

    @property
    def sensitivity(self) -> float:
        """What a unit of squared error of a weight divided by its factor costs, in units of ``level``."""
        return self.level * self._curvature

    @property
    def divided(self) -> Array:
        """Rows divided by their factors."""
        return self.rows / self.factors[..., None]

    @property
    def energy(self) -> float:
        """Weighted energy of the outputs, sum of g_o w_o H w_o^T."""
        return float((self.costs * self._energies).sum())

    def error(self, changes: Array) -> float:
        """Weighted energy of changes of the rows, of the same shape."""
        return float((self.costs * output_energy(changes, self.moment)).sum())

    def trial(self, seed: int) -> Array:
        """Random changes of the rows of weighted energy `TRIAL_NOISE`, as rounding with `factors` makes them."""
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, self.rows.shape) * self.factors[..., None]
        found = self.error(noise)
        changes: Array = noise * np.sqrt(TRIAL_NOISE * self.energy / found) if found > 0 else noise * 0
        return changes

    def at_level(self, level: float) -> Layer:
        """The layer with another ``level``; what is known of it and does not depend on that is not computed again."""
        return replace(self, level=level).knowing(self, "_energies", "costs", "feedback", "row_curvatures", "factors")

    def with_rows(self, rows: Array) -> Layer:
        """The layer with other weights."""
        return replace(self, rows=rows).knowing(self, "feedback", "row_curvatures")

    def knowing(self, other: Layer, *names: str) -> Layer:
        """The layer with what is known of another one, so that it is not computed again."""
        self.__dict__.update({name: other.__dict__[name] for name in names if name in other.__dict__})
        return self

    def coded(self, bit_price: float) -> Coded:
        """Assign all weights at a price per bit, in units of the network's output error."""
        step, factors = self._within_reach(float(step_of(bit_price, self.sensitivity)))
        divided = self.rows / factors[..., None]
        codebook = even_codebook(divided, step)
        indices = nearest(divided, codebook)
        by_group = self.row_curvatures / self._curvature  # what the factors of a group have taken out of its curvatures
        for sweep in range(SWEEPS):
            last = sweep == SWEEPS - 1 and divided.size <= MOST_FOLLOWED_WEIGHTS
            survivors = SURVIVORS if last else 1
            shares = shares_of(indices, len(codebook))
            indices = np.stack(
                [
                    feedback.assign(rows, codebook, shares, bit_price * curvature / self.level, survivors)
                    for rows, feedback, curvature in zip(
                        divided, self.feedback, by_group if self.scaled else np.ones(len(by_group)), strict=True
                    )
                ]
            )
        used = counts_of(indices, len(codebook)) > 0
        numbers = (np.cumsum(used) - 1).astype(np.min_scalar_type(np.count_nonzero(used) - 1))
        return Coded(numbers[indices], codebook[used], factors, step)

    def _within_reach(self, step: float) -> tuple[float, npt.NDArray[np.float32]]:
        """A step and factors of the outputs with which no weight is farther than ``reach`` steps from 0."""
        if self.reach is None:
            return step, self.factors
        if not self.scaled:
            return max(step, float(np.abs(self.rows).max(initial=0.0)) / self.reach), self.factors
        needed = (np.abs(self.rows).max(axis=2, initial=0.0) / (self.reach * step)).astype(np.float16)
        needed = np.nextafter(needed, np.float16(np.inf))  # rounding down would exceed it
        return step, np.clip(np.maximum(self.factors, needed.astype(np.float32)), *FULL_HALVES).astype(np.float32)
