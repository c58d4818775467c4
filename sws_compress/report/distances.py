"""How far outputs are from those of the original, in words, and how far is too far."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sws_compress.messages import shown
from sws_compress.ort.differences import OutputDifference

TWO_DIGITS = 100
"""Percent from which there are more than two digits."""

LARGE_ERROR = 0.07
"""`OutputDifference.error` of an output from which a result warns: 23 dB, a little more than calibrated weights leave
by default (25 dB, 5.6 %). Most files of real models that lose more than a point of their scores are above it, and so is
over a quarter of those that lose nothing, coarser than the default (`benchmarks.models.opponents.told`). At 10 % a file
that loses 2.8 points passed."""

LARGE_SHARE = 0.05
"""The same for outputs of names: one in twenty is another."""

LARGE_AFTER_TRAINING = 0.9
"""The same after training, which moves outputs on purpose: by half of their norm in the demonstration, which loses no
accuracy. A network that answers the same to everything is about as far as its outputs are large (1)."""


def difference_text(output: OutputDifference) -> str:
    """How far an output is from the original's, in words.

    Examples
    --------
    >>> difference_text(OutputDifference("y", 0.5, 0.06, 0.034, elements=40))
    'differs from the original by 3.4 % of its norm'
    >>> difference_text(OutputDifference("ids", 1, 0.0001, 0.0001, elements=40, differing_share=0.25))
    'differs from the original in 25 % of its entries'
    """
    if math.isinf(output.error):
        return "differs from the original in shape, or where values are 0, NaN or infinite"
    percent = percent_text(output.error)
    if output.differing_share is None:
        return f"differs from the original by {percent} of its norm"
    return f"differs from the original in {percent} of its entries"


def percent_text(share: float) -> str:
    """A share in percent with two digits, whatever its size.

    Examples
    --------
    >>> percent_text(0.0341), percent_text(1.2), percent_text(0)
    ('3.4 %', '120 %', '0 %')
    """
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= TWO_DIGITS else f"{percent:.2g} %"


def untold_lines(outputs: Sequence[OutputDifference]) -> tuple[str, ...]:
    """A line for every output of which nothing could be compared."""
    return tuple(
        f"output {shown(output.name)} {output.untold} on these inputs: it was not compared; give others (--inputs)"
        for output in outputs
        if output.untold is not None
    )


def far_lines(outputs: Sequence[OutputDifference], score_error: float, *, trained: bool) -> tuple[str, ...]:
    """A line for the output that is farthest from the original's, or for their scores, unless all are near."""
    compared = [each for each in outputs if each.untold is None]
    worst = max(compared, key=lambda each: _excess(each, trained), default=None)
    if worst is not None and _excess(worst, trained) > 1:
        return (f"output {shown(worst.name)} {difference_text(worst)}",)
    if score_error > LARGE_ERROR:
        by = percent_text(score_error)
        return (f"values before a last softmax, sigmoid or argmax differ from the original's by {by} of their norm",)
    return ()


def _excess(output: OutputDifference, trained: bool) -> float:
    """The error of an output as a multiple of what is large."""
    if trained:
        return output.error / LARGE_AFTER_TRAINING
    return output.error / (LARGE_ERROR if output.differing_share is None else LARGE_SHARE)
