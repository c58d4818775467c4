"""Moments per bin of a torch tensor: a numba kernel on CPU memory, torch operations on other devices."""

from __future__ import annotations

import torch

from sws_compress.mixture.histogram import moment_table as cpu_moment_table

PIECE_WEIGHTS = 1 << 23
"""Weights binned at a time on a device. Their float64 temporaries take 28 bytes each, 0.25 GB together."""


def moment_table(values: torch.Tensor, *, low: float, high: float, bins: int) -> torch.Tensor:
    """Moments per bin about the bin centres c.

    Tables over one grid add up. Weights on a device are not copied to the host.

    Parameters
    ----------
    values : tensor, any shape, floating point
        The weights, read as float32. Those outside the grid count in the first or last bin.
    low, high : float
        Ends of the grid.
    bins : int
        Number of bins of equal width.

    Returns
    -------
    tensor, shape (bins, 3), float64, on the device of ``values``
        Count, sum of w - c and sum of (w - c)^2; zeros if there are no values.
    """
    if values.device.type == "cpu":
        flat = values.detach().reshape(-1).float().numpy()
        return torch.from_numpy(cpu_moment_table(flat, low=low, high=high, bins=bins))
    return moment_table_on_device(values, low=low, high=high, bins=bins)


@torch.no_grad()
def moment_table_on_device(values: torch.Tensor, *, low: float, high: float, bins: int) -> torch.Tensor:
    """`moment_table` by torch operations: the same bins; sums in float64, in another order."""
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
    """Negated least and greatest value: the elementwise maximum over parts is the range of the whole.

    Parameters
    ----------
    values : tensor, any shape, floating point
        The weights.

    Returns
    -------
    tensor, shape (2,), float64, on the device of ``values``
        ``(-least, greatest)``; inf if a value is NaN or infinite, -inf if there are no values.
    """
    if not values.numel():
        return torch.full((2,), -torch.inf, dtype=torch.float64, device=values.device)
    least, greatest = torch.aminmax(values.detach().float())
    return torch.stack([-least, greatest]).double().nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
