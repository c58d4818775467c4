"""A weight rounded from its values alone: to a quality of the network, or to a number of values.

The quality is that of a network whose layers hand on all of their relative errors, so that these add up at the outputs.
At one price per bit for all weights, the error of a layer is proportional to the number of its weights: a small layer
is cheap to keep close.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import InputMoment, correlated
from sws_compress.calibrate.own_quality import coded_to, error_decibels
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

LEAST_SHARE = 1e-4
"""Share of the network's error that a weight may make, at least: closer than that, entries of its codebook take more
bytes than larger weights gain."""

CORRELATION = 0.3
"""Share of the correlations seen on given or drawn inputs that is believed. At equal bytes it takes 1.5 to 6 dB off the
error of the outputs of six real networks out of seven, on inputs of their own, and adds half a decibel for the other.
With 0.5 it is about the same."""

TABLE_QUALITY = 66.0
"""Decibels that computed tables keep, at least: about what float16 keeps of them. Layers follow that count on them."""

MISSED_IN_INTEGERS = 6.0
"""Decibels that a weight may lack in integers of 8 bits; outputs are checked. Where it lacks more, few weights lie far
out and most within few steps: such a weight is decoded to floats."""

EXACT_BITS = 0.5
"""Bits per weight that a weight without any error may take beyond one with: somebody has chosen these few values."""


def rounded_alone(
    model: ir.Model,
    weight: Weight,
    request: WeightsOnly,
    *,
    elements: int,
    seed: int,
    inputs: InputMoment | None = None,
    integers: bool = False,
) -> Clustering:
    """The palette of a weight as a request without inputs wants it.

    Parameters
    ----------
    model : ir.Model
        The model that has the weight.
    weight : Weight
        The weight.
    request : WeightsOnly
        The quality of the whole network, or a number of components.
    elements : int
        Elements of all its weights.
    seed : int
        Seed of what is drawn at random.
    inputs : InputMoment, optional
        What was seen of the inputs that it multiplies (`seen_inputs`). Without them, all inputs are alike.
    integers : bool
        Whether it shall stay in integers of 8 bits where it can.

    Returns
    -------
    Clustering
        Without a mixture where a quality is asked for.
    """
    if request.components is not None:
        granularity = request.granularity or PerTensor()
        return cluster(weight.values, request.components, granularity, channel_axis=weight.channel_axis, seed=seed)
    assert request.quality is not None
    share = min(max(weight.size / max(elements, 1), LEAST_SHARE), 1.0)
    quality = request.quality - 10 * math.log10(share)
    if weight.table:
        quality = max(quality, TABLE_QUALITY)
    return Clustering(at_quality(place_alone(model, weight, integers=integers), quality, inputs), None)


def place_alone(model: ir.Model, weight: Weight, *, integers: bool = False) -> Place:
    """How a weight lies; where nothing multiplies it as a whole, its slices have scales unless they are looked up."""
    place = place_of(model, weight, integers=integers)
    if place.products:
        return place
    scaled = len(weight.shape) > 1 and not set(weight.operators) & set(TABLES)
    return replace(place, layout=Slices(weight.channel_axis, scaled))


def at_quality(place: Place, quality: float, inputs: InputMoment | None = None) -> Palette:
    """Round a weight so that its outputs keep a quality, all inputs being of the same size.

    A weight of few distinct values is kept bit for bit where that takes no more bits, or hardly more (`EXACT_BITS`).

    Parameters
    ----------
    place : Place
        The weight.
    quality : float
        Weighted energy of the outputs over that of their error (`Layer.costs`), in decibels.
    inputs : InputMoment, optional
        What was seen of its inputs.

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
    found = _at_quality(place, quality, inputs)
    return found if exact is None or coded_bits(found) < coded_bits(exact) - EXACT_BITS * values.size else exact


def _at_quality(place: Place, quality: float, inputs: InputMoment | None) -> Palette:
    scaled = place.layout.output_axis(place.weight.shape) is not None
    rows = place.layout.rows(place.weight.values).astype(np.float64)
    groups, _, size = rows.shape
    alike = np.ones((groups, size))
    moment = alike if inputs is None else np.broadcast_to(correlated(inputs, CORRELATION), (groups, size, size))
    layer = Layer(rows, moment, scaled, reach=place.reach)
    coded = coded_to(layer, quality)
    if place.reach is not None and error_decibels(layer, coded) < quality - MISSED_IN_INTEGERS:
        return _at_quality(replace(place, reach=None), quality, inputs)
    palette = place.palette(coded)
    if scaled and not np.isfinite(palette.expand()).all():  # float16 cannot hold the weights divided by their factors
        return _at_quality(replace(place, layout=Slices(0), products=()), quality, None)
    return palette
