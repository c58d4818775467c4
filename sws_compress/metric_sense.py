"""Whether more or less of a caller's metric is better: the one place where its sign is applied."""

from __future__ import annotations

import enum

from sws_compress.errors import ArgumentError

DROP_SHARE = 0.01
"""Share of a metric that may be lost where the caller says nothing about it: one point of an accuracy near 100 %, the
usual allowance, and two standard errors of 1,000 test rows at 97.5 %."""

RISE_SHARE = 0.1
"""The same of a metric of which less is better. It is small where the network is good, and a hundredth of it is less
than its own noise: an error rate of 2.5 % on 1,000 rows has a standard error of a fifth of itself."""


class Sense(enum.Enum):
    """The values of a metric that are better.

    Attributes
    ----------
    MAX
        Greater ones, as of an accuracy.
    MIN
        Lesser ones, as of an error.
    """

    MAX = "max"
    MIN = "min"

    @classmethod
    def of(cls, mode: object) -> Sense:
        """The sense of what callers write. Raises ArgumentError if it is neither ``"max"`` nor ``"min"``."""
        for sense in cls:
            if mode == sense.value:
                return sense
        raise ArgumentError(
            f"mode must be 'max' or 'min', got {mode!r}: say whether more or less of evaluate is better"
        )

    def signed(self, metric: float) -> float:
        """The metric so that more is better; twice, it is the metric again."""
        return -metric if self is Sense.MIN else metric

    def drop(self, before: float, after: float) -> float:
        """How much worse ``after`` is than ``before``.

        Examples
        --------
        >>> Sense.MAX.drop(98.0, 97.0), Sense.MIN.drop(2.0, 3.0)
        (1.0, 1.0)
        """
        return self.signed(before) - self.signed(after)

    @property
    def usual_share(self) -> float:
        """Share of itself by which a metric may get worse where the caller says nothing about it."""
        return RISE_SHARE if self is Sense.MIN else DROP_SHARE

    def usual_drop(self, before: float) -> float:
        """How much worse than ``before`` a metric may become where the caller says nothing about it."""
        return self.usual_share * abs(before)

    @property
    def falls(self) -> str:
        """What a metric does that gets worse."""
        return "rises" if self is Sense.MIN else "falls"

    @property
    def fell(self) -> str:
        """The same of one that got worse."""
        return "rose" if self is Sense.MIN else "fell"
