"""What loading and running a model takes on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sws_compress.files import AnyPath
from sws_compress.ort.session import session
from sws_compress.ort.user_models import Feeds, feeds_as

MOST_RUNS = 20
MOST_SECONDS = 1.0
"""Runs that are measured, and the time after which no other begins."""


@dataclass(frozen=True)
class RunningCost:
    """What a model takes.

    Parameters
    ----------
    load_seconds : float
        Time to load it once.
    run_seconds : float
        Median time of a run.
    """

    load_seconds: float
    run_seconds: float


def running_cost(path: AnyPath, feeds: Feeds) -> RunningCost:
    """Load and run a model on inputs on which it, or its original, ran before.

    Parameters
    ----------
    path : str or path
        The model, as any program would load it: with all that the runtime does to it.
    feeds : mapping of str to ndarray
        Inputs by name; they are converted to the types of the model.

    Raises
    ------
    VerificationError, SessionError
        If the model does not load or run.
    """
    with session(path) as model:
        runs = model.timed(feeds_as(model, feeds), most_runs=MOST_RUNS, most_seconds=MOST_SECONDS)
        return RunningCost(model.load_seconds, median(runs))
