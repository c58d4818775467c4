"""What a run of the alternating loop hands back beside the network itself."""

from __future__ import annotations

from dataclasses import dataclass

from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.palette import Palette


@dataclass(frozen=True, eq=False)
class FineTuneResult:
    """Result of a run; the parameters of the model hold the palettes' values.

    Parameters
    ----------
    palettes, mixtures : dict by parameter name
        Values of the compressed parameters, and the mixtures that their latent weights follow.
    steps : int
        Optimiser steps of the run.
    curve : tuple of (int, float)
        Bytes and metric of the network after every epoch of the hard stage and the tuning.
    restarts : int
        How often the run went back to an earlier network and became slower, because the network worked no more.
    broke : bool
        Whether smaller networks did not work, so that the run went back, or had to end with a larger one.
    allowance_used : float or None
        Share of ``metric_drop`` or ``loss_share`` that the network uses; None without either.
    """

    palettes: dict[str, Palette]
    mixtures: dict[str, Mixture]
    steps: int
    curve: tuple[tuple[int, float], ...] = ()
    restarts: int = 0
    broke: bool = False
    allowance_used: float | None = None
