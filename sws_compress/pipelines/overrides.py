"""What the caller decides about single weights: those that are kept, and those with a quality of their own.

A pattern is a name, or a glob over names (``encoder.*.bias``), or a glob over the operators that read a weight
(``op:Gather``).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sws_compress.errors import ArgumentError
from sws_compress.messages import first_few, shown
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.job import Job
from sws_compress.requests import WeightsOnly

OPERATOR = "op:"
"""How patterns over operators begin."""


@dataclass(frozen=True, eq=False)
class Overrides:
    """Weights about which the caller decides.

    Parameters
    ----------
    kept : frozenset of str
        Names of those that stay as they are.
    requests : dict of str to WeightsOnly
        How others are rounded, by name.
    """

    kept: frozenset[str]
    requests: dict[str, WeightsOnly]

    @property
    def notes(self) -> tuple[str, ...]:
        """A line that names what was kept."""
        return (f"kept as asked: {first_few([shown(name) for name in sorted(self.kept)], ', ')}",) if self.kept else ()

    @property
    def reasons(self) -> dict[str, Reason]:
        """Why these weights have their bits."""
        own = {
            name: f"quality {request.quality:g} asked for"
            if request.components is None
            else f"{request.components} components asked for"
            for name, request in self.requests.items()
        }
        return {name: Reason(how) for name, how in (own | dict.fromkeys(self.kept, "kept as asked")).items()}


def overrides_of(job: Job, operators: Mapping[str, Collection[str]]) -> Overrides:
    """Match the patterns of a job with the weights of a model.

    Parameters
    ----------
    job : Job
        Its patterns. What is kept is kept whatever else matches; of several requests the last counts.
    operators : mapping of str to collection of str
        The operators that read each weight, by its name.

    Raises
    ------
    ArgumentError
        If a pattern matches no weight, or if none is left to compress.
    """
    kept = frozenset(name for pattern in job.keep for name in _matched(pattern, operators, "keep"))
    requests = {
        name: request
        for pattern, request in job.overrides.items()
        for name in _matched(pattern, operators, "overrides")
        if name not in kept
    }
    if kept and len(kept) == len(operators):
        raise ArgumentError(f"keep must leave a weight to compress, got patterns of all {len(kept)}: leave one out")
    return Overrides(kept, requests)


def _matched(pattern: str, operators: Mapping[str, Collection[str]], argument: str) -> list[str]:
    if pattern.startswith(OPERATOR):
        wanted = pattern.removeprefix(OPERATOR)
        found = [name for name, read_by in operators.items() if any(fnmatchcase(each, wanted) for each in read_by)]
    else:
        found = [name for name in operators if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        raise ArgumentError(
            f"pattern of {argument} must match a weight that would be compressed, got {shown(pattern)}: "
            f"{_near(pattern, operators)}"
        )
    return found


def _near(pattern: str, operators: Mapping[str, Collection[str]]) -> str:
    """The names that a pattern may have meant."""
    if pattern.startswith(OPERATOR):
        known: Iterable[str] = {OPERATOR + each for read_by in operators.values() for each in read_by}
    else:
        known = operators
    near = difflib.get_close_matches(pattern, sorted(known), n=3, cutoff=0)
    return f"the nearest are {', '.join(map(shown, near))}" if near else "the model has none"
