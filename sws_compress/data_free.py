"""An ONNX file made smaller from its weights alone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.files import draft, write_atomically
from sws_compress.graph import rewrite
from sws_compress.graph.external import DataFile
from sws_compress.graph.lookups import find_embeddings
from sws_compress.graph.read import read_model
from sws_compress.graph.verify import compare_outputs
from sws_compress.graph.weights import FLOAT_TYPES, Weight, each_weight, find_weights, skipped_weights
from sws_compress.mixture.forms import CodebookForm
from sws_compress.mixture.snap import Palette
from sws_compress.packing import find_palettes
from sws_compress.report.result import CompressionResult
from sws_compress.runtime import AffineFormat, affine_rows, pack_affine, verify_affine
from sws_compress.sessions import Feeds, answers, bytes_on_disk, external_files, feeds_for, open_model
from sws_compress.shipping import PACKING, Packing, refuse_no_gain, ship
from sws_compress.streaming import CodedWeights, Limits, data_files, ship_streamed

if TYPE_CHECKING:
    from sws_compress.mixture.params import Mixture

OnProgress = Callable[[str, int, int], None]
"""Called as ``on_progress(description, done, total)``."""

LowBitRuntime = Literal["int4", "int8"]
LOW_BITS: Mapping[str, int] = {"int4": 4, "int8": 8}

SMALLEST_WEIGHT = 256
"""Elements below which a tensor is not clustered: its codebook would cost what it saves."""

LIMITS = Limits()
"""Beyond them models are streamed."""


def compress_file(
    source: Path,
    target: Path,
    form: CodebookForm,
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
    model = read_model(source)
    _refuse_own_input(source, target, *data_files(target))
    show = on_progress or _silent
    if sum(tensor.nbytes for tensor in _floats(model)) > limits.model_bytes:
        return _compress_streamed(source, model, target, form, inputs, seed, show, started, packing, limits)
    model = ir.external_data.load_to_model(model)
    weights = find_weights(model, smallest=SMALLEST_WEIGHT)
    _refuse_nothing_to_do(source, model, weights)
    feeds = _checked_feeds(source, inputs, seed)
    palettes: dict[str, Palette] = {}
    elements = sum(weight.size for weight in weights)
    mixtures = _cluster_each(
        weights, form, seed, palettes.__setitem__, lambda name, done: show(f"clustering {name}", done, elements)
    )
    show("packing and checking", elements, elements)
    for name, palette in palettes.items():
        model.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    snapped = rewrite.write(model)
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
    form: CodebookForm,
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
            form,
            seed,
            coded.add,
            lambda name, done: show(f"clustering {name}", done, total),
        )
        if not mixtures:
            _refuse_nothing_to_do(source, model, find_weights(model, smallest=SMALLEST_WEIGHT))
        show("packing", checked, total)
        shipped = ship_streamed(model, coded, target, dense_bytes=bytes_on_disk(source), on_checked=show_checked)
    return CompressionResult(**vars(shipped), seconds=time.perf_counter() - started, mixtures=mixtures)


def _cluster_each(
    weights: Iterable[Weight],
    form: CodebookForm,
    seed: int,
    keep: Callable[[str, Palette], None],
    show: Callable[[str, int], None],
) -> dict[str, Mixture]:
    """Hand the palette of every weight to ``keep``; ``show`` is called with each name and the elements done before."""
    mixtures: dict[str, Mixture] = {}
    done = 0
    for weight in weights:
        show(weight.name, done)
        found = form.cluster(weight.values, weight.channel_axis, seed=seed)
        keep(weight.name, found.palette)
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
        done += weight.size
    return mixtures


def _floats(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return (tensor for tensor in tensors if tensor is not None and tensor.dtype in FLOAT_TYPES)


def _silent(description: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


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
    refuse_no_gain(len(packed.data), dense_bytes)
    write_atomically(target, packed.data)
    return CompressionResult(
        target, dense_bytes, len(packed.data), affine_rows(packed), largest, time.perf_counter() - started
    )


def _refuse_own_input(source: Path, *targets: Path) -> None:
    """OutputError if writing one of ``targets`` would overwrite the model or its external data."""
    for file, target in itertools.product((source, *external_files(source)), targets):
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
