"""What ways that do not train share: the weights of a model, and the file made of their palettes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sws_compress.onnx_io.analyse.weights import Weight, find_weights
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.session import Array
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.publish import NOTHING_PRUNED, Snapped, pruned_as, publish
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.write_back import written_back
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.sinusoids import sinusoid_palette
from sws_compress.report.result import CompressionResult
from sws_compress.thresholds import SMALLEST_WEIGHT


def weights_of(source: Source, *, tables: bool = False) -> tuple[Weight, ...]:
    """The weights of a model in memory (`find_weights`), with its computed tables if wanted.

    Tables that the file computes (`sinusoid_palette`) are never among them. Parameters of a module that training would
    choose are, whatever the graph reads them for.
    """
    learned: frozenset[str] = frozenset()
    if source.module is not None:
        from sws_compress.train.select import default_weights

        learned = default_weights(source.module, SMALLEST_WEIGHT)
    found = find_weights(source.model, smallest=SMALLEST_WEIGHT, learned=learned, tables=tables)
    return tuple(weight for weight in found if not tables or sinusoid_palette(weight.values) is None)


def publish_untrained(
    source: Source,
    palettes: Mapping[str, Palette],
    before: float | None,
    job: Job,
    kept: frozenset[str] = frozenset(),
    biases: Mapping[str, Array] | None = None,
) -> CompressionResult:
    """Give the weights of a model the values of their palettes, verify the file and write it.

    Parameters
    ----------
    source : Source
        The model, in memory; it is not changed. A module is copied with its new weights.
    palettes : mapping of str to Palette
        Palettes of the initialisers that were clustered.
    before : float or None
        The caller's metric of the original module.
    job : Job
        Where the file goes and what it is like.
    kept : frozenset of str
        Weights that the caller wanted as they are.
    biases : mapping of str to ndarray, optional
        New values of initialisers that stay dense.

    Raises
    ------
    VerificationError
        As `publish`.
    """
    values = {**{name: palette.expand() for name, palette in palettes.items()}, **(biases or {})}
    model = with_values(source.model, values)
    outputs = [] if source.feeds is None else outputs_in_runtime(to_bytes(model), source.feeds)
    copy = None if source.module is None else written_back(source, source.module, values, outputs)
    pruning = NOTHING_PRUNED
    if source.module is not None and all(map(_is_plain, palettes.values())):
        palettes, pruning = {}, pruned_as(job.file, model)  # what is left of each is found by its values
    found = {**find_palettes(model, besides=palettes), **palettes}
    result = publish(
        Snapped(model, found, source.feeds, outputs, source.outputs, source.dense_bytes, source.name, pruning, kept),
        job,
    )
    result = replace(result, notes=(*source.notes, *result.notes))
    return result if copy is None else copy.added_to(result, before, job)


def _is_plain(palette: Palette) -> bool:
    """Whether units can be taken out of a palette: the slices of scales and vectors cannot."""
    return palette.scales is None and palette.dimension == 1
