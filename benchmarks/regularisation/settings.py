"""The trials of every method: as many for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRIALS = 12


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One trial of a method.

    Parameters
    ----------
    method : str
        Name of the method.
    value : float
        Weight of the penalty in the loss at the end of the run (of -log p for mixtures), or the share of the run for
        early stopping.
    start : float
        Weight of the penalty at the start; geometric interpolation in between.
    components : int
        Components of a mixture.
    one_mixture : bool
        Whether all weights of a network share one mixture; else each layer has its own.
    floor : (float, float)
        For EM: least spread of a component at the start and at the end, in standard deviations of the initial weights.
    shape, spread : float
        For gradients: Gamma prior on the precisions, of this shape, with its mode at this spread.
    zero_share : float, optional
        For gradients: fixed proportion of the component at zero; else it is learned.
    """

    method: str
    value: float = 0.0
    start: float = 0.0
    components: int = 0
    one_mixture: bool = False
    floor: tuple[float, float] = (1.0, 1.0)
    shape: float = 1.0
    spread: float = 1.0
    zero_share: float | None = None


def _penalties(method: str, strengths: tuple[float, ...]) -> tuple[Setting, ...]:
    """Each strength from the start, and growing from a hundredth."""
    return tuple(
        Setting(method=method, value=strength, start=strength * share)
        for share in (1.0, 0.01)
        for strength in strengths
    )


def _mixtures(method: str) -> tuple[Setting, ...]:
    """Random trials: strengths are log-uniform, everything else is drawn from a few values."""
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(TRIALS):
        value = float(10 ** rng.uniform(-4.5, -2.5))
        start = value * float(rng.choice([1.0, 0.01]))
        components = int(rng.choice([4, 8]))
        one_mixture = bool(rng.choice([False, True]))
        widest, narrowest = float(rng.choice([1.0, 2.0, 4.0])), float(rng.choice([0.1, 0.3, 1.0]))
        shape, spread = float(rng.choice([2.0, 6.0, 26.0])), float(10 ** rng.uniform(-1.3, -0.3))
        zero_share = [None, 0.5, 0.9][int(rng.integers(3))]
        own = (
            {"floor": (widest, widest * narrowest)}
            if method == "mixture"
            else {"shape": shape, "spread": spread, "zero_share": zero_share}
        )
        trials.append(
            Setting(method=method, value=value, start=start, components=components, one_mixture=one_mixture, **own)
        )
    return tuple(trials)


STOPPED = tuple(float(share) for share in np.geomspace(0.03, 1.0, TRIALS).round(3))
GRIDS: dict[str, tuple[Setting, ...]] = {
    "none": (Setting(method="none"),),
    "L1": _penalties("L1", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "L2": _penalties("L2", (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "mixture by gradients": _mixtures("mixture by gradients"),
    "mixture": _mixtures("mixture"),
    "early stopping": tuple(Setting(method="early stopping", value=share) for share in STOPPED),
}
