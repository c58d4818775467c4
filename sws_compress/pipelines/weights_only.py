"""The mode that needs no data: every weight is clustered from its values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.weights import Weight, find_weights
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.publish import NOTHING_PRUNED, Snapped, pruned_as, publish
from sws_compress.pipelines.source import Source, in_memory, metric_of
from sws_compress.pipelines.streamed import stream_weights
from sws_compress.pipelines.write_back import written_back
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import CompressionResult
from sws_compress.requests import WeightsOnly
from sws_compress.thresholds import SMALLEST_WEIGHT

if TYPE_CHECKING:
    from sws_compress.mixture.mixture import Mixture


@dataclass(frozen=True, eq=False)
class ClusteredWeights:
    """Palettes of all weights, and the mixtures of those that were clustered, by name."""

    palettes: Mapping[str, Palette]
    mixtures: dict[str, Mixture]


def compress_weights(source: Source, request: WeightsOnly, job: Job) -> CompressionResult:
    """Cluster every weight of a model, verify the result and write it.

    A model without weights to cluster is packed as it is: quantised ones hold integers alone.

    Parameters
    ----------
    source : Source
        A file or an exported module; it is not changed. Files larger than ``job.limits`` are streamed.
    request : WeightsOnly
        How weights are clustered.
    job : Job
        Everything else.

    Raises
    ------
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    VerificationError
        If the file does not do what the snapped network does.
    """
    if source.module is None and source.weight_bytes > job.limits.model_bytes:
        return stream_weights(source, request, job)
    source = in_memory(source, job)
    weights = find_weights(source.model, smallest=SMALLEST_WEIGHT, learned=_learned(source))
    if weights or not find_palettes(source.model):
        refuse_nothing_to_do(source.name, source.model, weights)
    before = metric_of(source.module, job)
    clustered = cluster_weights(weights, request, job)
    values = {name: palette.expand() for name, palette in clustered.palettes.items()}
    model = with_values(source.model, values)
    outputs = [] if source.feeds is None else outputs_in_runtime(to_bytes(model), source.feeds)
    copy = None if source.module is None else written_back(source, source.module, values, outputs)
    palettes, pruning = clustered.palettes, NOTHING_PRUNED
    if source.module is not None and all(map(_is_plain, palettes.values())):
        palettes, pruning = {}, pruned_as(job.file, model)  # what is left of each is found by its values
    found = {**find_palettes(model), **palettes}
    snapped = Snapped(model, found, source.feeds, outputs, source.outputs, source.dense_bytes, source.name, pruning)
    result = publish(snapped, job)
    result = replace(result, mixtures=clustered.mixtures, notes=(*source.notes, *result.notes))
    return result if copy is None else copy.added_to(result, before, job)


def cluster_weights(weights: Sequence[Weight], request: WeightsOnly, job: Job) -> ClusteredWeights:
    """Cluster each weight by itself."""
    palettes, mixtures, done = {}, {}, 0
    elements = sum(weight.size for weight in weights)
    for weight in weights:
        job.on_progress(f"clustering {weight.name}", done, elements)
        found = cluster(
            weight.values, request.components, request.granularity, channel_axis=weight.channel_axis, seed=job.seed
        )
        palettes[weight.name] = found.palette
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
        done += weight.size
    job.on_progress("packing and checking", elements, elements)
    return ClusteredWeights(palettes, mixtures)


def _learned(source: Source) -> frozenset[str]:
    """Parameters of a module that training would choose: they are weights, whatever the graph reads them for."""
    if source.module is None:
        return frozenset()
    from sws_compress.train.select import default_weights

    return default_weights(source.module, SMALLEST_WEIGHT)


def _is_plain(palette: Palette) -> bool:
    """Whether units can be taken out of a palette: the slices of scales and vectors cannot."""
    return palette.scales is None and palette.dimension == 1
