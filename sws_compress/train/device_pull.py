"""The soft pull on torch tensors: a numba kernel on CPU memory, table look-ups on the tensor's device elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sws_compress.mixture import majoriser as cpu
from sws_compress.mixture.majoriser import PullTable
from sws_compress.train.optimizers import Metric


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """A `PullTable` in the memory of a device; it is copied there once per EM step.

    Parameters
    ----------
    low, step : float
        First point of the table, and distance between points.
    entries : tensor, shape (points, 2), float32
        a(w) and a(w) m(w) at each point.
    """

    low: float
    step: float
    entries: torch.Tensor

    @classmethod
    def of(cls, table: PullTable, device: torch.device) -> DeviceTable:
        """Copy of ``table`` on ``device``."""
        return cls(table.low, table.step, torch.tensor(table.entries, device=device))


@torch.no_grad()
def pull_(weights: torch.Tensor, metric: Metric, table: PullTable | DeviceTable, strength: float) -> None:
    """Pull weights towards the mixture, in place: ``w <- (H w + strength a(w) m(w)) / (H + strength a(w))``.

    Contiguous float32 CPU tensors are updated in one pass over the memory that torch owns. Everything else goes
    through `pull_on_device`.

    Parameters
    ----------
    weights : tensor, any shape, floating point
        The weights.
    metric : Metric
        The H of each weight.
    table : PullTable or DeviceTable
        Table of a(w) and a(w) m(w).
    strength : float
        Strength tau >= 0.
    """
    moment = metric.second_moment
    on_cpu = weights.device.type == "cpu" and weights.dtype == torch.float32 and weights.is_contiguous()
    if not isinstance(table, PullTable) or not on_cpu or (moment is not None and not moment.is_contiguous()):
        pull_on_device(weights, metric, table, strength)
    elif moment is None:
        cpu.pull(_flat(weights), 1 / metric.rate, table, strength)
    else:
        cpu.pull_adam(
            _flat(weights),
            _flat(moment),
            lr=metric.rate,
            eps=metric.epsilon,
            bias_correction2=float(metric.bias_correction2),
            table=table,
            strength=strength,
        )


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1).numpy()


def pull_on_device(weights: torch.Tensor, metric: Metric, table: PullTable | DeviceTable, strength: float) -> None:
    """`pull_` by torch operations on the device of ``weights``: O(n) temporaries in float32, no copy to the host."""
    if strength == 0:
        return  # exactly unmoved, even where the metric is 0 as well
    curvature, target = torch.as_tensor(table.entries, device=weights.device).unbind(1)
    w = weights.float().reshape(-1)
    position = ((w - table.low) / table.step + 0.5).clamp_(0, len(curvature) - 1)
    nearest = position.nan_to_num_(0.0).int()  # a NaN weight stays NaN, but must not be an address
    a, am = curvature.index_select(0, nearest), target.index_select(0, nearest)
    if metric.second_moment is None:
        h: torch.Tensor | float = 1 / metric.rate
    else:
        h = ((metric.second_moment.float().reshape(-1) / metric.bias_correction2).sqrt() + metric.epsilon) / metric.rate
    # As an increment: (h w + tau a m) / (h + tau a) would round w anew even where nothing pulls.
    weights.copy_((w + strength * (am - a * w) / (h + strength * a)).view(weights.shape))
