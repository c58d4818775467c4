"""An ONNX file made smaller from its weights alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sws_compress.errors import ArgumentError
from sws_compress.files import draft
from sws_compress.onnx_io.analyse.embeddings import find_embeddings
from sws_compress.onnx_io.analyse.weights import Weight, each_weight, find_weights
from sws_compress.onnx_io.float_types import FLOAT_TYPES
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.onnx_io.write.external import DataFile
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.publish import PACKING, Packing, ship
from sws_compress.pipelines.source import (
    OnProgress,
    checked_feeds,
    open_source,
    refuse_nothing_to_do,
    silent,
)
from sws_compress.pipelines.streamed import CodedWeights, Limits, data_files, ship_streamed
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import Granularity
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import CompressionResult
from sws_compress.thresholds import SMALLEST_WEIGHT

if TYPE_CHECKING:
    from sws_compress.mixture.mixture import Mixture


LIMITS = Limits()
"""Beyond them models are streamed."""


def compress_file(
    source: Path,
    target: Path,
    components: int,
    granularity: Granularity,
    inputs: Any,
    seed: int,
    on_progress: OnProgress | None,
    started: float,
    *,
    packing: Packing = PACKING,
    limits: Limits = LIMITS,
) -> CompressionResult:
    """Every weight of the model at ``source`` clustered, the result checked and written to ``target``.

    ``inputs`` (arrays by name, or an .npz of them; None draws random ones from ``seed``) are for the check. ``started``
    is when the caller began, on ``time.perf_counter``. Models larger than ``limits`` say are
    streamed, and keep their names. Errors as for ``api.compress``.
    """
    model = open_source(source, target, *data_files(target))
    show = on_progress or silent
    if sum(tensor.nbytes for tensor in _floats(model)) > limits.model_bytes:
        return _compress_streamed(
            source, model, target, components, granularity, inputs, seed, show, started, packing, limits
        )
    model = ir.external_data.load_to_model(model)
    weights = find_weights(model, smallest=SMALLEST_WEIGHT)
    refuse_nothing_to_do(source, model, weights)
    feeds = checked_feeds(source, inputs, seed)
    palettes: dict[str, Palette] = {}
    elements = sum(weight.size for weight in weights)
    mixtures = _cluster_each(
        weights,
        components,
        granularity,
        seed,
        palettes.__setitem__,
        lambda name, done: show(f"clustering {name}", done, elements),
    )
    show("packing and checking", elements, elements)
    for name, palette in palettes.items():
        model.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    snapped = to_bytes(model)
    shipped = ship(
        model,
        {**find_palettes(model), **palettes},
        target,
        dense_bytes=bytes_on_disk(source),
        check=lambda packed: compare_outputs(snapped, packed, feeds),
        packing=packing,
    )
    return CompressionResult(**vars(shipped), seconds=time.perf_counter() - started, mixtures=mixtures)


def _compress_streamed(
    source: Path,
    model: ir.Model,
    target: Path,
    components: int,
    granularity: Granularity,
    inputs: Any,
    seed: int,
    show: OnProgress,
    started: float,
    packing: Packing,
    limits: Limits,
) -> CompressionResult:
    """`compress_file` with little in memory: a weight at a time, and without running the network."""
    if inputs is not None:
        raise ArgumentError(
            f"example_inputs must be left out for a model of more than {limits.model_bytes:,} bytes, got some: "
            "its weights are checked one by one, without running it; compare outputs by verify, where memory allows"
        )
    total = 2 * sum(tensor.size for tensor in _floats(model))  # every weight is clustered, and checked later
    checked = total // 2

    def show_checked(name: str, elements: int) -> None:
        nonlocal checked
        checked += elements
        show(f"checking {name}", checked, total)

    with draft(target) as file:
        coded = CodedWeights(DataFile(file), limits, find_embeddings(model) if packing.packed_rows else None)
        mixtures = _cluster_each(
            each_weight(model, smallest=SMALLEST_WEIGHT),
            components,
            granularity,
            seed,
            coded.add,
            lambda name, done: show(f"clustering {name}", done, total),
        )
        if not mixtures:
            refuse_nothing_to_do(source, model, find_weights(model, smallest=SMALLEST_WEIGHT))
        show("packing", checked, total)
        shipped = ship_streamed(model, coded, target, dense_bytes=bytes_on_disk(source), on_checked=show_checked)
    return CompressionResult(**vars(shipped), seconds=time.perf_counter() - started, mixtures=mixtures)


def _cluster_each(
    weights: Iterable[Weight],
    components: int,
    granularity: Granularity,
    seed: int,
    keep: Callable[[str, Palette], None],
    show: Callable[[str, int], None],
) -> dict[str, Mixture]:
    """Hand the palette of every weight to ``keep``; ``show`` is called with each name and the elements done before."""
    mixtures: dict[str, Mixture] = {}
    done = 0
    for weight in weights:
        show(weight.name, done)
        found = cluster(weight.values, components, granularity, channel_axis=weight.channel_axis, seed=seed)
        keep(weight.name, found.palette)
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
        done += weight.size
    return mixtures


def _floats(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return (tensor for tensor in tensors if tensor is not None and tensor.dtype in FLOAT_TYPES)
