"""What a network's own inputs, given or drawn, tell of the inputs of its layers where there is no calibration.

Drawn inputs have other sizes than real ones. But rectified activations have a mean, and neighbours in space and
channels go together, whatever the network sees. So what is taken from them is how inputs of inner layers correlate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sws_compress.calibrate.moments import InputMoment
from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.ort.activations import Feeds, activations
from sws_compress.ort.sample_inputs import smoothed
from sws_compress.ort.session import SessionError
from sws_compress.pipelines.calibration_layers import MOMENT_BYTES, added, samples_of
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.source import Source

MOST_INPUTS = 2304
"""Inputs of a layer of which correlations are taken: a convolution of 3 x 3 over 256 channels. Time to assign a weight
grows with them."""


def seen_feeds(source: Source, job: Job) -> tuple[Feeds, ...]:
    """The inputs that a network runs on; where they are drawn, smooth ones as well: images and sounds are smooth.

    None of a network that runs on none, or that draws random numbers.
    """
    if source.feeds is None or draws(source.model):
        return ()
    return (source.feeds,) if job.inputs is not None else (source.feeds, smoothed(source.feeds))


def seen_inputs(source: Source, places: Mapping[str, Place], job: Job) -> dict[str, InputMoment]:
    """Moments of the inputs of layers, by weight.

    Parameters
    ----------
    source : Source
        The network, in memory.
    places : mapping of str to Place
        Its weights, by name.
    job : Job
        The caller's inputs, if there are any, and a seed.

    Returns
    -------
    dict of str to InputMoment
        Without weights that multiply the inputs of the network itself, that have more than `MOST_INPUTS` inputs, or
        whose inputs cannot be seen or are not finite; of the others as many as fit into `MOMENT_BYTES`.
    """
    own = {str(value.name) for value in source.model.graph.inputs}
    inner, held = {}, 0
    for name, place in places.items():
        values = {product.value for product in place.products}
        inputs = place.layout.rows(place.weight.values).shape[2]
        if values and not values & own and inputs <= MOST_INPUTS and held + place.moment_bytes <= MOMENT_BYTES:
            inner[name] = place
            held += place.moment_bytes
    moments: dict[str, InputMoment] = {}
    try:
        _collect(source, inner, seen_feeds(source, job), job.seed, moments)
    except SessionError:  # smooth inputs take another branch, or a value inside cannot be shown
        return {}
    return {name: moment for name, moment in moments.items() if np.isfinite(moment.sums).all()}


def _collect(
    source: Source, places: Mapping[str, Place], feeds: tuple[Feeds, ...], seed: int, moments: dict[str, InputMoment]
) -> None:
    values = sorted({product.value for place in places.values() for product in place.products})
    if not values:
        return
    for feed, found in enumerate(activations(source.model, values, feeds)):
        for number, (name, place) in enumerate(places.items()):
            for product in place.products:
                inputs = samples_of(product, found[product.value], np.random.default_rng([seed, feed, number]))
                if inputs is not None:
                    added(moments, name, InputMoment.of(inputs))
