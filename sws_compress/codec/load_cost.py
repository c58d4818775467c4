"""What decoding costs when a model is loaded: estimates of time and memory, and limits on them.

Every program estimates its own cost (`Program.load_cost`); this file holds what several of them share. The constants,
here and there, are fits to `benchmarks/encodings/load.py`: one thread, ONNX Runtime 1.32, 9 million weights. A runtime
keeps everything it computes while it folds until loading is done, so bytes count every intermediate result.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sws_compress.errors import ArgumentError

NANOSECONDS_PER_WEIGHT = 25.0
"""Time to write a decoded weight, whatever the encoding."""

BYTES_PER_WEIGHT = 15.0
"""Memory of a decoded weight, of its copies, and of what the runtime holds of it besides."""

BYTES_PER_INTEGER = 4.0
"""The same where weights are bytes from the codebook on."""

BYTES_PER_STREAM_BIT = 26.0
"""Memory of a bit of a stream in which ``TopK`` looks for ones."""

BYTES_PER_GAP = 100.0
"""Memory of a number that is decoded from gaps: some dozen results in int64."""


@dataclass(frozen=True)
class LoadCost:
    """Time and memory of decoding at load.

    Estimates hold for the machine of the measurements; another one may be several times faster or slower. The cost of a
    model is the sum over its tensors.

    Parameters
    ----------
    seconds : float
        Processor time on one thread.
    peak_bytes : float
        Memory at the peak, the decoded weights included.

    Examples
    --------
    >>> LoadCost(0.5, 2e6) + LoadCost(0.25, 1e6)
    LoadCost(seconds=0.75, peak_bytes=3000000.0)
    >>> LoadCost(0.5, 2e6).within(LoadCost(1.0, 1e6))
    False
    """

    seconds: float
    peak_bytes: float

    def __add__(self, other: LoadCost) -> LoadCost:
        return LoadCost(self.seconds + other.seconds, self.peak_bytes + other.peak_bytes)

    def scaled(self, factor: float) -> LoadCost:
        """Cost times ``factor`` > 0; infinite parts stay infinite."""
        return LoadCost(factor * self.seconds, factor * self.peak_bytes)

    def within(self, limit: LoadCost) -> bool:
        """Whether neither time nor memory exceeds that of ``limit``."""
        return self.seconds <= limit.seconds and self.peak_bytes <= limit.peak_bytes


FREE = LoadCost(0.0, 0.0)
"""Cost of a program that does nothing beyond writing its weights."""

UNLIMITED = LoadCost(math.inf, math.inf)
"""Limit that everything is within."""

_ANY_MODEL = LoadCost(seconds=0.5, peak_bytes=64e6)
"""What any model may cost by default, however small it is."""

_EACH_WEIGHT = LoadCost(seconds=1 / 6e6, peak_bytes=47.0)
"""What each weight may cost by default beyond that. MiniLM, the largest real network measured, then takes less than six
times the memory of the dense model to load, with 16 components as with 256 (docs/format.md)."""


_EACH_INTEGER = LoadCost(seconds=1 / 6e6, peak_bytes=24.0)
"""The same for each weight that is a byte: memory is why it is one. MiniLM in integers then takes 574 MB to load, not
1,052, and 1 % more bytes; below 300 MB its large tensors would not be coded at all."""


def default_limit(weights: int, integers: int = 0) -> LoadCost:
    """Limit for all weights of a model whose caller sets none.

    Parameters
    ----------
    weights : int
        Number of weights that are decoded.
    integers : int
        Number of integers of a byte beside them.

    Returns
    -------
    LoadCost
        0.5 s and 64 MB, and 1/6 microsecond and 47 bytes more for each weight, 24 for each integer.
    """
    return sum((_EACH_WEIGHT.scaled(weights), _EACH_INTEGER.scaled(integers)), _ANY_MODEL)


def load_budget(text: str) -> LoadCost:
    """Limit as people write it.

    Parameters
    ----------
    text : str
        Seconds, megabytes, or both, separated by a comma; "none" for no limit.

    Returns
    -------
    LoadCost
        What is not given is unlimited.

    Raises
    ------
    ArgumentError
        If the text is anything else.

    Examples
    --------
    >>> load_budget("2s,300MB")
    LoadCost(seconds=2.0, peak_bytes=300000000.0)
    >>> load_budget("2s")
    LoadCost(seconds=2.0, peak_bytes=inf)
    """
    numbers = {"s": math.inf, "MB": math.inf}
    for part in [] if text == "none" else text.split(","):
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|MB)\s*", part)
        if found is None:
            raise ArgumentError(
                f"load budget must be seconds, megabytes or both, got {text!r}: write it like 2s, 300MB, or 2s,300MB"
            )
        numbers[found[2]] = float(found[1])
    return LoadCost(numbers["s"], 1e6 * numbers["MB"])
