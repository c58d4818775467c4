"""A weight rounded from its values alone: to a quality, or to a number of values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.own_quality import coded_to
from sws_compress.onnx_io.analyse.weights import Weight
from sws_compress.pipelines.places import Place, Slices, place_of
from sws_compress.quantize.cluster import cluster, far_exponent
from sws_compress.quantize.granularity import PerTensor
from sws_compress.quantize.palette import Clustering, Palette, palette_of
from sws_compress.quantize.rate_distortion import coded_bits
from sws_compress.requests import WeightsOnly
from sws_compress.thresholds import MAX_CODEBOOK

TABLES = ("Gather", "EmbeddingBag")
"""Operators whose weights are rows that are looked up: a factor for each of them would be one for each token."""

EXACT_BITS = 0.5
"""Bits per weight that a weight without any error may take beyond one with: somebody has chosen these few values."""


def rounded_alone(model: ir.Model, weight: Weight, request: WeightsOnly, seed: int) -> Clustering:
    """The palette of a weight as a request without inputs wants it.

    Parameters
    ----------
    model : ir.Model
        The model that has the weight.
    weight : Weight
        The weight.
    request : WeightsOnly
        A quality, or a number of components.
    seed : int
        Seed of what is drawn at random.

    Returns
    -------
    Clustering
        Without a mixture where a quality is asked for.
    """
    if request.components is not None:
        granularity = request.granularity or PerTensor()
        return cluster(weight.values, request.components, granularity, channel_axis=weight.channel_axis, seed=seed)
    assert request.quality is not None
    return Clustering(at_quality(place_alone(model, weight), request.quality), None)


def place_alone(model: ir.Model, weight: Weight) -> Place:
    """How a weight lies; where nothing multiplies it as a whole, its slices have scales unless they are looked up."""
    place = place_of(model, weight)
    if place.products:
        return place
    scaled = len(weight.shape) > 1 and not set(weight.operators) & set(TABLES)
    return replace(place, layout=Slices(weight.channel_axis, scaled))


def at_quality(place: Place, quality: float) -> Palette:
    """Round a weight so that every output channel keeps a quality, all inputs being alike.

    A weight of few distinct values is kept bit for bit where that takes no more bits, or hardly more (`EXACT_BITS`).

    Parameters
    ----------
    place : Place
        The weight.
    quality : float
        Energy of the weight's outputs over that of their error, each relative to its channel, in decibels.

    Returns
    -------
    Palette
    """
    values = place.weight.values
    exact = palette_of(values)
    if exact is not None and len(exact.codebook) == 1:
        return exact
    if far_exponent(values):
        return cluster(values, MAX_CODEBOOK, PerTensor(), seed=0).palette
    found = _at_quality(place, quality)
    return found if exact is None or coded_bits(found) < coded_bits(exact) - EXACT_BITS * values.size else exact


def _at_quality(place: Place, quality: float) -> Palette:
    rows = place.layout.rows(place.weight.values).astype(np.float64)
    alike = np.ones((len(rows), rows.shape[2]))
    if place.layout.output_axis(place.weight.shape) is not None:
        palette = place.palette(coded_to(Layer(rows, alike, scaled=True, relative=1.0), quality))
        if np.isfinite(palette.expand()).all():
            return palette
        place = replace(place, layout=Slices(0), products=())
        rows = place.layout.rows(place.weight.values).astype(np.float64)
        alike = np.ones((len(rows), rows.shape[2]))
    return place.palette(coded_to(Layer(rows, alike, scaled=False), quality))
