"""What the callbacks share: the settings of the prior until there is an optimiser, and its numbers for a log."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sws_compress.arguments import own_numbers
from sws_compress.quantize.palette import check_components
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import Selection
from sws_compress.train.sharing import Sharing


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """Settings of a `SoftWeightSharing` that do not depend on the run; see there."""

    components: int
    coded_ratio: float
    bit_price: float | None
    schedule: Schedule | None
    parameters: Selection | None
    sharing: Sharing

    def __post_init__(self) -> None:
        own_numbers(self)
        check_components(self.components)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, total_steps: int) -> SoftWeightSharing:
        """Make the prior of a run."""
        return SoftWeightSharing(model, optimizer, total_steps=total_steps, **vars(self))


def numbers(prior: SoftWeightSharing) -> dict[str, float]:
    """Numbers for a log.

    Parameters
    ----------
    prior : SoftWeightSharing
        The prior of the run.

    Returns
    -------
    dict of str to float
        ``sws/stage`` (0 soft, 1 hard, 2 tune), ``sws/progress`` (0..1) and, from the hard stage on,
        ``sws/coded_ratio``.
    """
    values = {"sws/stage": float(list(Stage).index(prior.stage)), "sws/progress": prior.progress}
    ratio = prior.coded_ratio
    return values if ratio is None else {**values, "sws/coded_ratio": ratio}
