"""Biases that may follow weights: constants that a network adds to the outputs of one weight alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.layers import Layer
from sws_compress.onnx_io.analyse.biases import bias_of
from sws_compress.ort.session import Array
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.write_back import held_as_they_are


def with_biases(source: Source, places: Mapping[str, Place], weights: Collection[str]) -> dict[str, Place]:
    """Places with their biases, where these may get other values.

    Parameters
    ----------
    source : Source
        The model, in memory.
    places : mapping of str to Place
        Weights, by name.
    weights : collection of str
        All weights of the model: a bias that is one has a palette of its own.

    Returns
    -------
    dict of str to Place
        Biases of a module are those that it holds as they are: its copy gets them, too.
    """
    held = None if source.module is None else held_as_they_are(source, source.module)
    found = {}
    for name, place in places.items():
        groups, outputs, _ = place.layout.rows(place.weight.values).shape
        bias = bias_of(source.model, name, place.products[0].layout, (groups, outputs)) if place.products else None
        if bias is not None and (bias.name in weights or (held is not None and bias.name not in held)):
            bias = None
        found[name] = replace(place, bias=bias)
    return found


def with_means_kept(
    model: ir.Model, place: Place, layer: Layer, rows: Array, changed: Mapping[str, Array]
) -> dict[str, Array]:
    """The bias that keeps the mean outputs of a weight.

    Parameters
    ----------
    model : ir.Model
        The model as it was.
    place : Place
        The weight in it.
    layer : Layer
        The same with its mean inputs.
    rows : ndarray, shape (groups, n, d), float64
        What the weight becomes, by output.
    changed : mapping of str to ndarray
        Biases that other weights have changed: recurrent ones belong to two.

    Returns
    -------
    dict of str to ndarray
        Its values by name; empty if the weight has no bias.
    """
    if place.bias is None or layer.means is None:
        return {}
    tensor = model.graph.initializers[place.bias.name].const_value
    assert tensor is not None
    kept = layer.means.kept_by(place.layout.rows(place.weight.values).astype(np.float64), rows)
    return {place.bias.name: place.bias.added(changed.get(place.bias.name, tensor.numpy()), kept)}


def kept_where_they_help(assigned: Assigned, error: Callable[[Mapping[str, Array]], float]) -> Assigned:
    """Weights with their biases, or without if ``error``, of new values on inputs not seen yet, is less then."""
    alone = replace(assigned, biases={})
    return alone if assigned.biases and error(alone.values) < error(assigned.values) else assigned


def reasons_with_biases(assigned: Assigned, places: Mapping[str, Place]) -> dict[str, Reason]:
    """Why weights have their bits, and that a bias has followed them."""
    return {
        name: replace(reason, how=f"{reason.how}, bias follows")
        if name in places and (bias := places[name].bias) is not None and bias.name in assigned.biases
        else reason
        for name, reason in assigned.reasons.items()
    }
