"""What ``--set`` says about the weights that a pattern matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError

if TYPE_CHECKING:
    from sws_compress.requests import WeightsOnly

NUMBERS: dict[str, Any] = {"quality": float, "components": int}
"""What can be set, and the type of its number."""


def overrides_given(given: Sequence[str]) -> dict[str, WeightsOnly]:
    """How weights are rounded, by pattern.

    Parameters
    ----------
    given : sequence of str
        Texts of the form ``PATTERN=quality:DB`` or ``PATTERN=components:K``; of equal patterns the last counts.

    Raises
    ------
    ArgumentError
        If a text has another form, or if a number is out of range.
    """
    from sws_compress.requests import WeightsOnly

    found: dict[str, WeightsOnly] = {}
    for text in given:
        pattern, _, rule = text.rpartition("=")  # names may hold the sign
        name, _, number = rule.partition(":")
        try:
            value = NUMBERS[name](number)
        except (KeyError, ValueError) as error:
            raise ArgumentError(
                f"--set must be PATTERN=quality:DB or PATTERN=components:K, got {text!r}: for example "
                "'op:Gather=components:64'"
            ) from error
        found.pop(pattern, None)  # the order is that of the last ones
        found[pattern] = WeightsOnly(**{name: value})
    return found
