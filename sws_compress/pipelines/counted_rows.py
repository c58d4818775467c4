"""Tables whose rows are looked up, with how often the inputs look up each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.row_counts import RowCounts
from sws_compress.messages import shown
from sws_compress.onnx_io.analyse.looked_up import Rows, positions_of
from sws_compress.ort.activations import Feeds, activations
from sws_compress.pipelines.places import Place

TOLD_SHARE = 0.01
"""Least share of the rows of a table that is told if no input uses them."""


def with_counts(model: ir.Model, places: Mapping[str, Place], feeds: Sequence[Feeds]) -> dict[str, Place]:
    """Places with the counts of their rows, where these are only looked up.

    Parameters
    ----------
    model : ir.Model
        The model.
    places : mapping of str to Place
        Weights, by name.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on.
    """
    tables = {name: positions_of(model, name) for name, place in places.items() if not place.products}
    values = sorted({value for positions in tables.values() for value in positions})
    found: dict[str, RowCounts] = {}
    for number, given in enumerate(activations(model, values, feeds) if values else ()):
        for name, positions in tables.items():
            for looked_up in (given[value] for value in positions if given[value].size):
                counts = RowCounts.of(looked_up, places[name].weight.shape[0], number % 2)
                found[name] = found[name] + counts if name in found else counts
    return {**places, **{name: _counted(places[name], counts) for name, counts in found.items()}}


def _counted(place: Place, counts: RowCounts) -> Place:
    values = place.weight.values
    scaled = counts.pays(values.reshape(len(values), -1).astype(np.float64))
    return replace(place, layout=Rows(scaled), counts=counts)


def notes_of_rows(places: Mapping[str, Place], idle: set[str]) -> tuple[str, ...]:
    """Notes of rows that no input looks up, and that keep less therefore."""
    return tuple(
        f"{place.counts.not_used:.0%} of the rows of {shown(name)} are not looked up by these inputs: they keep less "
        "than the rest; give inputs that use them"
        for name, place in places.items()
        if place.counts is not None and place.counted and place.counts.not_used >= TOLD_SHARE and name not in idle
    )
