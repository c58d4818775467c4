"""What a run is steered to: the goal of its caller, resolved to a number that training can measure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sws_compress.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class SteeringTarget:
    """The one quantity that a run is steered to: exactly one of the three is given.

    Parameters
    ----------
    file_bytes : int, optional
        Bytes of the whole file.
    metric_drop : float, optional
        Points by which the metric (higher is better) may fall below that of the float network.
    coded_ratio : float, optional
        32 bits per compressed weight over the coded bits; it needs no measure of file or metric.

    Raises
    ------
    ArgumentError
        If not exactly one is given, or it is out of range.

    Examples
    --------
    >>> SteeringTarget(file_bytes=5600).file_bytes
    5600
    """

    file_bytes: int | None = None
    metric_drop: float | None = None
    coded_ratio: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            names = ", ".join(given) or "none"
            raise ArgumentError(f"a run must be steered to one of {', '.join(vars(self))}, got {names}: give one")
        ((name, value),) = given.items()
        least = 1 if name == "coded_ratio" else 0
        if not least < value or (value == math.inf and name != "coded_ratio"):
            raise ArgumentError(f"{name} must be > {least}, got {value}: ask for more")
