"""What rounded weights do to the outputs, on inputs that are given or drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sws_compress.onnx_io.write.probed import score_names
from sws_compress.ort.activations import Trials
from sws_compress.ort.session import SessionError
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.seen_inputs import seen_feeds
from sws_compress.pipelines.source import Source
from sws_compress.quantize.palette import Palette


class OutputQuality:
    """How far rounded weights take the outputs of a network.

    Parameters
    ----------
    source : Source
        The network, in memory. It is run on `seen_feeds`.
    names : tuple of str
        Initialisers whose values change.
    job : Job
        The caller's inputs, if there are any.
    """

    def __init__(self, source: Source, names: tuple[str, ...], job: Job) -> None:
        self._trials: Trials | None = None
        feeds = seen_feeds(source, job)
        if not feeds or not names or not score_names(source.model):
            return
        try:
            self._trials = Trials(source.model, names, feeds)
        except SessionError:  # smooth inputs take another branch, or the values behind an output cannot be shown
            return

    def error(self, palettes: Mapping[str, Palette]) -> float:
        """Relative error of what is read out at the outputs, with these weights; NaN where it cannot be told."""
        if self._trials is None:
            return math.nan
        return math.sqrt(self._trials.error({name: palette.expand() for name, palette in palettes.items()}))


def decibels(error: float) -> float:
    """A relative error as energy over that of the error; inf for none or NaN."""
    return -20 * math.log10(error) if error > 0 else math.inf
