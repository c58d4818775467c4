"""The price per bit that meets the goal of a streamed file: all weights are assigned, and again if it is missed.

What bits buy in each weight is known after the first time (`Rates`), and how far the errors of all of them together
differ from their sum. So the second time is nearly always the last.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.bit_allocation import Sample, levels
from sws_compress.calibrate.rate_curves import Rates, price_where, quality_of, share_of_error
from sws_compress.ort.activations import Feeds
from sws_compress.packing.pack import packed_model
from sws_compress.pipelines.calibration_inputs import divided, first_rows
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.overrides import Overrides
from sws_compress.pipelines.pilot import Pilot
from sws_compress.pipelines.price_search import SIZE_TOLERANCE
from sws_compress.pipelines.segment_assignment import PASSES, Assignment
from sws_compress.pipelines.segment_coding import curve_from
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder
from sws_compress.terminal.progress_bar import part_of_progress

GAIN_FEEDS, GAIN_ROWS = 2, 2
"""Sets of inputs that gains are measured on, and rows of each, at most: every weight takes a run."""

MOST_ROUNDS = 3
"""Times that all weights are assigned."""

SHARES = 0.05, 0.5, 0.8, 1.0
"""Share of the progress at which the first of these times begins, and all of them end."""

INITIALIZER_BYTES = 30
"""About what an initialiser takes besides its values."""

QUALITY_TOLERANCE = 1.0
"""A quality is met within so many decibels."""


class StreamedSearch:
    """Assignments of all weights, until the goal is met.

    Parameters
    ----------
    plan : Plan
        The model.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on.
    overrides : Overrides
        Weights that stay as they are, or are rounded alone.
    folder : WorkFolder
        Where finished work lies; a run that was killed goes on there.
    quality : float
        The goal, in decibels, unless there is a size.
    file_bytes : float or None
        The size of the file.
    dense_bytes : int
        Bytes of the model.
    job : Job
        Seed, limits and progress.
    """

    def __init__(
        self,
        plan: Plan,
        feeds: Sequence[Feeds],
        overrides: Overrides,
        folder: WorkFolder,
        *,
        quality: float,
        file_bytes: float | None,
        dense_bytes: int,
        job: Job,
    ) -> None:
        self._plan, self._feeds, self._overrides, self._folder, self._job = plan, feeds, overrides, folder, job
        self._quality, self._file_bytes, self._dense_bytes = quality, file_bytes, dense_bytes

    def assigned(self) -> Assignment:
        """The assignment that meets the goal, or the last one."""
        if "gains" not in self._folder.state:
            self._measure()
        while True:
            state = self._folder.state
            number = len(state["tried"])
            work = Work(part_of_progress(self._job.on_progress, *SHARES[number : number + 2]))
            work.expect(PASSES * self._plan.elements)
            found = Assignment(self._plan, self._feeds, self._overrides, self._folder, work, self._job)
            found.finish()
            if number + 1 == MOST_ROUNDS or self._is_met(found):
                return found
            tried = [*state["tried"], (state["price"], found.error)]
            curves = {name: curve_from(told) for name, told in found.curves.items()}
            rates = Rates(curves, state["gains"], state["measured"], tried)
            price = self._next_price(rates, found)
            if rates.chosen(price) == rates.chosen(state["price"]):
                return found  # nothing comes closer
            self._begin(price, tried=tried)

    def _measure(self) -> None:
        """Measure the gains of all weights, and begin at a price at which the errors of layers add up to the goal."""
        plan, overrides = self._plan, self._overrides
        chosen = [name for name in plan.places if name not in overrides.kept and name not in overrides.requests]
        some = divided(self._feeds)[1][:GAIN_FEEDS]
        few = [first_rows(given, plan.model, GAIN_ROWS) for given in some]
        work = Work(part_of_progress(self._job.on_progress, 0.0, SHARES[0]))
        work.expect(plan.elements)
        measured = Pilot(plan, chosen, few, self._folder, work, self._job.seed).gains()
        trials = [Sample(np.empty(0), 1, 1.0, 1.0, measured[name]) for name in chosen]
        gains = dict(zip(chosen, levels(trials), strict=True))

        def summed(price: float) -> float:
            return sum(measured[name] * share_of_error(plan.size([name]), price, gains[name]) for name in chosen)

        price = price_where(summed, 10 ** (-self._quality / 10))
        self._begin(price, measured=measured, gains=gains, tried=[], curves={})

    def _begin(self, price: float, **known: Any) -> None:
        """Keep a state in which no weight is assigned at a price."""
        nothing = [0.0] * len(self._plan.scores)
        start = {"segments": 0, "unmet": [], "bytes_in_words": 0.0, "changes": nothing, "energies": nothing}
        self._folder.save_state(**self._folder.state | {"price": price, **known, **start})

    def _is_met(self, found: Assignment) -> bool:
        if self._file_bytes is None:
            return abs(quality_of(found.error) - self._quality) <= QUALITY_TOLERANCE
        return abs(math.log(self._bytes_of(found) / self._file_bytes)) <= SIZE_TOLERANCE

    def _next_price(self, rates: Rates, found: Assignment) -> float:
        """The price at which the goal is expected to be met, after one that has missed it."""
        if self._file_bytes is None:
            return rates.price_for_error(10 ** (-self._quality / 10))
        more_bytes = self._file_bytes - self._bytes_of(found)
        return rates.price_for_bits(rates.bits(self._folder.state["price"]) + 8 * more_bytes)

    def _bytes_of(self, found: Assignment) -> float:
        """Bytes of the file: small weights are packed for it, those that are coded alone have codes of known length."""
        model, names = self._plan.model, [name for name in self._plan.places if name not in self._overrides.kept]
        alone = {name for name in names if self._plan.size([name]) >= self._job.limits.alone_elements}
        packed, _ = packed_model(model, {name: found.palette(name) for name in names if name not in alone}, {})
        return self._dense_bytes - _bytes_besides(model, ()) + _bytes_besides(packed, alone) + found.bytes_in_words


def _bytes_besides(model: ir.Model, names: Collection[str]) -> int:
    """Bytes of the nodes of a model, and of its initialisers but some."""
    tensors = (value.const_value for name, value in model.graph.initializers.items() if name not in names)
    tensor_bytes = sum(INITIALIZER_BYTES + tensor.nbytes for tensor in tensors if tensor is not None)
    return tensor_bytes + sum(int(ir.to_proto(node).ByteSize()) for node in model.graph)
