"""Comparison of two model files by their outputs, and of large ones by their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sws_compress.arguments import number
from sws_compress.errors import ArgumentError, DataError, ModelError, SwsError
from sws_compress.files import AnyPath, file_path
from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.index_ranges import index_ranges
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, lifted, stored_model
from sws_compress.ort.differences import OutputDifference, same_structure, telling_difference
from sws_compress.ort.session import Array, runtime_error
from sws_compress.ort.still_packed import still_packed
from sws_compress.ort.user_models import (
    DECODABLE,
    Feeds,
    answers,
    callers_file,
    check_same_interface,
    feeds_as,
    feeds_with_answers,
    open_model,
)
from sws_compress.ort.weight_differences import WeightDifference, computed_in_one, weight_differences
from sws_compress.pipelines.job import DEFAULT_LIMITS, Limits, checked_seed
from sws_compress.report.file_reports import Verification

COMPUTED = (
    "weights that only one of the models computes from constants were not compared with those constants: {}; "
    "outputs tell (--inputs)"
)
"""The note on weights that stand behind operators of constants in one model, by name."""


def verify(
    original: AnyPath,
    compressed: AnyPath,
    *,
    inputs: AnyPath | Feeds | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
    packed: bool = False,
) -> Verification:
    """Compare the outputs of two ONNX files in ONNX Runtime on the same inputs.

    Parameters
    ----------
    original, compressed : str or path
        The files; their inputs and outputs have the same names, in any order. Their types may differ: inputs are
        converted to those of each file.
    inputs : mapping of str to ndarray, or path of an .npz file of them, optional
        Inputs by name. By default random ones.
    tolerance : float
        Largest difference that passes, relative to the largest value of each output of the original; >= 0. Outputs
        of text, booleans and integers of more than 8 bits may differ in this share of their entries. Where outputs
        cannot be compared, largest relative error of a weight.
    seed : int
        Seed of random inputs; >= 0.
    packed : bool
        Whether to check besides that the compressed file still is packed: that it holds decoders, that ONNX Runtime
        folds them all when it loads the file, and that weights in integers stay integers. Tools that fold constants
        end that.

    Returns
    -------
    Verification
        The difference of every output; ``passed`` tells whether all are within the tolerance. Outputs that hold no
        finite number do not pass: any two models would agree on them. Of a model of more than 256 MiB the weights are
        compared too, one after the other, and they decide where ONNX Runtime cannot run both models.

    Raises
    ------
    ArgumentError
        If ``tolerance`` or ``seed`` is out of range.
    ModelError
        If one of the files is no model, or if they have other inputs or outputs.
    DataError
        If the inputs do not fit.
    VerificationError
        If an output has another shape.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")

    >>> result = sws.compress("model.onnx", "small.onnx", sws.WeightsOnly(components=64))
    >>> sws.verify("model.onnx", "small.onnx").passed
    True
    """
    tolerance = number("tolerance", tolerance)
    if not tolerance >= 0:
        raise ArgumentError(f"tolerance must be >= 0, got {tolerance}: 0.1 allows a tenth of the largest output")
    seed = checked_seed(seed)
    first, second = file_path("original", original), file_path("compressed", compressed)
    found = compare_models(first, second, inputs=inputs, tolerance=tolerance, seed=seed)
    if not packed:
        return found
    with callers_file(second, *DECODABLE):
        return replace(found, still_packed=still_packed(stored_model(second)))


def compare_models(
    first: Path,
    second: Path,
    *,
    inputs: AnyPath | Feeds | None,
    tolerance: float,
    seed: int,
    limits: Limits = DEFAULT_LIMITS,
) -> Verification:
    """`verify` of checked arguments; above ``limits.model_bytes`` a model is large."""
    models = stored_model(first), stored_model(second)
    sizes = bytes_on_disk(first), bytes_on_disk(second)
    weights: tuple[WeightDifference, ...] = ()
    computed: tuple[str, ...] = ()
    if max(sizes) > limits.model_bytes:
        with callers_file(second, *DECODABLE):
            computed = computed_in_one(*models)
            weights = tuple(weight_differences(*models, besides=computed))
    ranges = index_ranges(lifted(models[0]))
    del models
    notes = (COMPUTED.format(first_few([shown(name) for name in computed], ", ")),) if computed else ()
    try:
        outputs = _compared_outputs(first, second, inputs, tolerance, seed=seed, ranges=ranges)
    except (ModelError, DataError) as error:
        if not weights or not _is_excused(error, given=inputs is not None):
            raise
        outputs, notes = (), (*notes, f"outputs were not compared, only weights: {error}")
    return Verification(first, second, *sizes, outputs, tolerance, inputs is None, weights, notes)


def _is_excused(error: SwsError, *, given: bool) -> bool:
    """Whether ONNX Runtime did not run a model, for another reason than the inputs that the caller gave."""
    cause = runtime_error(error)
    return cause is not None and (cause.out_of_bounds or not given)


def _compared_outputs(
    first: Path,
    second: Path,
    inputs: AnyPath | Feeds | None,
    tolerance: float,
    *,
    seed: int,
    ranges: Mapping[str, range],
) -> tuple[OutputDifference, ...]:
    """Run one model after the other, so that only one of them is in memory."""
    given = inputs is not None
    with open_model(first) as reference:
        feeds, expected = feeds_with_answers(reference, first, inputs, seed=seed, ranges=ranges)
    with open_model(second) as candidate:
        check_same_interface(reference, candidate)
        answered = answers(candidate, second, feeds_as(candidate, feeds), given=given)
    by_name = dict(zip((output.name for output in candidate.outputs), answered, strict=True))
    names = [output.name for output in reference.outputs]
    outputs = tuple(telling_difference(name, left, by_name[name]) for name, left in zip(names, expected, strict=True))
    if not all(output.deviation <= tolerance for output in outputs):
        _refuse_varying(first, names, expected, answers(open_model(first), first, feeds, given=given), tolerance)
    return outputs


def _refuse_varying(
    path: Path, names: Sequence[str], first: Sequence[Array], second: Sequence[Array], tolerance: float
) -> None:
    """Raise ModelError if two runs of the original differ by more than the tolerance."""
    if not all(
        same_structure(left, right) and not telling_difference(name, left, right).deviation > tolerance
        for name, left, right in zip(names, first, second, strict=True)
    ):
        raise ModelError(
            f"model {path} must answer the same to the same inputs, got others at a second run: "
            "compare the weights of the two files instead (inspect)"
        )
