"""Moments per bin of a torch tensor where it lies: a numba kernel on CPU memory, torch operations elsewhere."""

from __future__ import annotations

import torch

from sws_compress.mixture.histogram import moment_table as cpu_moment_table

PIECE_WEIGHTS = 1 << 23
"""Weights that are binned at a time on a device: their float64 temporaries take 28 bytes each, 0.25 GB together."""


def moment_table(values: torch.Tensor, *, low: float, high: float, bins: int) -> torch.Tensor:
    """Columns count, sum of w - c and of (w - c)^2 per bin, (bins, 3) float64 on the device of ``values``.

    ``values`` any shape, floating point, read as float32; outside the grid they count in the first or last bin; of no
    values, zeros. Tables over one grid add up. No copy of the weights goes to the host.
    """
    if values.device.type == "cpu":
        flat = values.detach().reshape(-1).float().numpy()
        return torch.from_numpy(cpu_moment_table(flat, low=low, high=high, bins=bins))
    return moment_table_on_device(values, low=low, high=high, bins=bins)


@torch.no_grad()
def moment_table_on_device(values: torch.Tensor, *, low: float, high: float, bins: int) -> torch.Tensor:
    """The same by torch operations: bins as the kernel finds them, sums in float64 and in another order."""
    table = torch.zeros((bins, 3), dtype=torch.float64, device=values.device)
    step = (high - low) / bins
    for piece in torch.split(values.detach().reshape(-1), PIECE_WEIGHTS):
        weights = piece.float().double()
        position = ((weights - low) * (1 / step)).clamp_(0, bins - 1).nan_to_num_(0.0).int()
        offset = weights.sub_(position.double().add_(0.5).mul_(step).add_(low))
        table[:, 0] += torch.bincount(position, minlength=bins)
        table[:, 1] += torch.bincount(position, weights=offset, minlength=bins)
        table[:, 2] += torch.bincount(position, weights=offset.square_(), minlength=bins)
    return table


def value_range(values: torch.Tensor) -> torch.Tensor:
    """(-least, greatest) of ``values``, float64 (2,) on their device: the maximum over parts is that of the whole.

    Infinite where a value is NaN or infinite, minus infinity where there are none.
    """
    if not values.numel():
        return torch.full((2,), -torch.inf, dtype=torch.float64, device=values.device)
    least, greatest = torch.aminmax(values.detach().float())
    return torch.stack([-least, greatest]).double().nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
