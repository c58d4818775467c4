"""What a network's own inputs, given or drawn, tell of the inputs of its layers where there is no calibration.

Drawn inputs have other sizes than real ones. But rectified activations have a mean, and neighbours in space and
channels go together, whatever the network sees. So what is taken from them is how inputs of inner layers correlate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sws_compress.calibrate.moments import InputMoment
from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.ort.activations import Feeds
from sws_compress.ort.sample_inputs import smoothed
from sws_compress.ort.session import SessionError
from sws_compress.pipelines.calibration_layers import MOMENT_BYTES
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.met import Meeting, meetings, met_by
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
    inner: list[Meeting] = []
    held = 0
    for meeting in meetings(places, places):
        place = places[meeting.names[0]]
        values = {product.value for product in meeting.products}
        inputs = place.layout.rows(place.weight.values).shape[2]
        if values and not values & own and inputs <= MOST_INPUTS and held + place.moment_bytes <= MOMENT_BYTES:
            inner.append(meeting)
            held += place.moment_bytes
    try:
        met = met_by(source.model, inner, seen_feeds(source, job), job.seed)
    except SessionError:  # smooth inputs take another branch, or a value inside cannot be shown
        return {}
    found = {name: each.moment for meeting, each in zip(inner, met, strict=True) for name in meeting.names}
    return {name: moment for name, moment in found.items() if moment is not None and np.isfinite(moment.sums).all()}
