"""An ONNX file made smaller from its weights alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.files import write_atomically
from sws_compress.graph import rewrite
from sws_compress.graph.read import read_model
from sws_compress.graph.verify import compare_outputs
from sws_compress.graph.weights import Weight, find_weights, skipped_weights
from sws_compress.mixture.cluster import cluster
from sws_compress.mixture.init import check_components
from sws_compress.mixture.snap import Palette
from sws_compress.packing import find_palettes
from sws_compress.report.result import CompressionResult
from sws_compress.runtime import AffineFormat, affine_rows, pack_affine, verify_affine
from sws_compress.sessions import Feeds, answers, bytes_on_disk, external_files, feeds_for, open_model
from sws_compress.shipping import refuse_no_gain, ship

if TYPE_CHECKING:
    from sws_compress.mixture.params import Mixture

OnProgress = Callable[[str, int, int], None]
"""Called as ``on_progress(description, done, total)``."""

LowBitRuntime = Literal["int4", "int8"]
LOW_BITS: Mapping[str, int] = {"int4": 4, "int8": 8}

SMALLEST_WEIGHT = 256
"""Elements below which a tensor is not clustered: its codebook would cost what it saves."""


def compress_file(
    source: Path,
    target: Path,
    components: int,
    inputs: Any,
    seed: int,
    on_progress: OnProgress | None,
    started: float,
) -> CompressionResult:
    """Every weight of the model at ``source`` clustered, the result checked and written to ``target``.

    ``inputs`` (arrays by name, or an .npz of them; None draws random ones from ``seed``) are for the check. ``started``
    is when the caller began, on ``time.perf_counter``. Errors as for ``api.compress``.
    """
    check_components(components)
    model = read_model(source)
    _refuse_own_input(source, target)
    model = ir.external_data.load_to_model(model)
    weights = find_weights(model, smallest=SMALLEST_WEIGHT)
    _refuse_nothing_to_do(source, model, weights)
    feeds = _checked_feeds(source, inputs, seed)
    palettes: dict[str, Palette] = {}
    mixtures: dict[str, Mixture] = {}
    for i, weight in enumerate(weights):
        if on_progress is not None:
            on_progress(f"clustering {weight.name}", i, len(weights))
        found = cluster(weight.values, components, seed=seed)
        palettes[weight.name] = found.palette
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
    if on_progress is not None:
        on_progress("packing and checking", len(weights), len(weights))
    for name, palette in palettes.items():
        model.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    snapped = rewrite.write(model)
    shipped = ship(
        model,
        {**find_palettes(model), **palettes},
        target,
        dense_bytes=bytes_on_disk(source),
        check=lambda packed: compare_outputs(snapped, packed, feeds),
    )
    return CompressionResult(**vars(shipped), seconds=time.perf_counter() - started, mixtures=mixtures)


def quantize_file(
    source: Path,
    target: Path,
    runtime: LowBitRuntime,
    inputs: Any,
    seed: int,
    on_progress: OnProgress | None,
    started: float,
) -> CompressionResult:
    """Matrices and embeddings of the model at ``source`` on grids that ONNX Runtime multiplies as they are.

    8-bit products use integer arithmetic (in float32 they are several times slower than dense ones), 4-bit products
    float32. The result's largest difference is from the model with the same weights expanded. Arguments and errors
    else as for ``compress_file``.
    """
    if runtime not in LOW_BITS:
        raise ArgumentError(f"runtime must be int4 or int8, got {runtime!r}: leave it out for the smallest file")
    model = read_model(source)
    _refuse_own_input(source, target)
    model = ir.external_data.load_to_model(model)
    _refuse_nothing_to_do(source, model, find_weights(model, smallest=SMALLEST_WEIGHT))
    feeds = _checked_feeds(source, inputs, seed)
    bits = LOW_BITS[runtime]
    packed = pack_affine(model, AffineFormat(bits=bits, integer_arithmetic=bits == 8), on_progress=on_progress)
    largest = verify_affine(model, packed, feeds)
    dense_bytes = bytes_on_disk(source)
    refuse_no_gain(packed.data, dense_bytes)
    write_atomically(target, packed.data)
    return CompressionResult(
        target, dense_bytes, len(packed.data), affine_rows(packed), largest, time.perf_counter() - started
    )


def _refuse_own_input(source: Path, target: Path) -> None:
    """OutputError if writing ``target`` would overwrite the model or its external data."""
    for file in (source, *external_files(source)):
        if target.exists() and target.samefile(file):
            raise OutputError(f"output {target} must not be the input, got the same file: choose another path")


def _checked_feeds(source: Path, inputs: Any, seed: int) -> Feeds:
    """Inputs on which the original runs: found out before the work, and not taken for a failure of the result."""
    if not (inputs is None or isinstance(inputs, str | os.PathLike | Mapping)):
        raise ArgumentError(
            f"example_inputs of an ONNX file must be arrays by input name, got {type(inputs).__name__}: "
            "pass a dict, or the path of an .npz file"
        )
    original = open_model(source)
    feeds = feeds_for(original, inputs, seed=seed)
    answers(original, source, feeds, given=inputs is not None)
    return feeds


def _refuse_nothing_to_do(source: Path, model: ir.Model, weights: Sequence[Weight]) -> None:
    if not weights:
        skipped = max(
            skipped_weights(model, smallest=SMALLEST_WEIGHT), key=lambda one: np.prod(one.shape), default=None
        )
        largest = "" if skipped is None else f"; the largest, {skipped.name}, {skipped.reason}"
        raise ModelError(
            f"model {source} must have a float weight of at least {SMALLEST_WEIGHT} elements, got none{largest}: "
            "it is small enough already, or its weights are no constants"
        )
    if all(np.all(weight.values == weight.values.flat[0]) for weight in weights):
        raise ModelError(
            f"{weights[0].name} must not be constant, got {weights[0].values.flat[0]:g} everywhere and no other weight "
            "that varies: pass a trained model"
        )
