"""The pull on torch tensors: a numba kernel on CPU memory, table look-ups on the tensor's own device elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sws_compress.mixture import majoriser as cpu
from sws_compress.mixture.majoriser import PullTable
from sws_compress.train.optimizers import Metric


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """A `PullTable` in the memory of a device: copied there once per EM step, not once per step and tensor."""

    low: float
    step: float
    curvature: torch.Tensor
    target: torch.Tensor

    @classmethod
    def of(cls, table: PullTable, device: torch.device) -> DeviceTable:
        curvature, target = (torch.tensor(array, device=device) for array in (table.curvature, table.target))
        return cls(table.low, table.step, curvature, target)


@torch.no_grad()
def pull_(weights: torch.Tensor, metric: Metric, table: PullTable | DeviceTable, strength: float) -> None:
    """In place ``w <- (H w + strength a(w) m(w)) / (H + strength a(w))``; weights: any shape, floating point.

    Contiguous float32 CPU tensors are updated in one pass over the memory that torch owns. Everything else takes
    ``pull_on_device``: O(n) temporaries, no copy to the host.
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
    """The same update by torch operations on the device of ``weights``, in float32 whatever their dtype."""
    if strength == 0:
        return  # exactly unmoved, even where the metric is 0 as well
    curvature = torch.as_tensor(table.curvature, device=weights.device)
    target = torch.as_tensor(table.target, device=weights.device)
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
