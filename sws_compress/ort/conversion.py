"""Whether a model of an older opset, once converted, still computes what its file does."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sws_compress.errors import DataError, ModelError, VerificationError
from sws_compress.files import AnyPath
from sws_compress.onnx_io.analyse.index_ranges import index_ranges
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, refused_conversion
from sws_compress.onnx_io.read.converter_mistakes import CORNERS_BELOW, KNOWN_FROM
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.session import reason_of
from sws_compress.ort.user_models import Feeds, feeds_with_answers, open_model

_SCALES = 2
"""Place of the scales among the inputs of Resize."""

LARGEST_RELATIVE_DIFFERENCE = 1e-5
"""Relative difference of outputs up to which a converted model counts as the same: some roundings of float32."""


def check_conversion(
    file: Path, model: ir.Model, inputs: AnyPath | Feeds | None = None, *, seed: int = 0
) -> tuple[str, ...]:
    """Compare a model that had to be converted with its file, in ONNX Runtime.

    Parameters
    ----------
    file : Path
        The file that the model was read from.
    model : ir.Model
        The model as `read_model` returned it; one that was not converted passes.
    inputs : path-like, mapping of str to array-like, or None
        The caller's inputs by name, or an .npz file of them; None draws random ones.
    seed : int
        Seed of random inputs.

    Returns
    -------
    tuple of str
        A line if nothing was compared, because the model runs on no random inputs, but the conversion of its operators
        is known to be right (`is_known`); otherwise none.

    Raises
    ------
    ModelError
        If outputs differ by more than `LARGEST_RELATIVE_DIFFERENCE`, or if they cannot be compared and the conversion
        may be wrong.
    DataError
        If ``inputs`` do not fit the model.
    """
    stated = model.meta.get(CONVERTED_FROM)
    if stated is None:
        return ()
    opset = model.opset_imports[""]
    try:
        feeds, _ = feeds_with_answers(open_model(file), file, inputs, seed=seed, ranges=index_ranges(model))
    except DataError as error:
        if inputs is not None:
            raise
        if is_known(model, stated):
            return (
                f"the conversion from opset {stated} to {opset} was not compared: its operators are known to convert",
            )
        raise ModelError(
            f"model {file} of opset {stated} must run on random inputs to be compared with its conversion to opset "
            f"{opset}, got '{reason_of(error)}': give inputs (--inputs), or export it again with opset {opset} or newer"
        ) from error
    try:
        differences = compare_outputs(file, to_bytes(model), feeds)
    except (VerificationError, DataError) as error:
        found = f"two versions that cannot be compared ('{reason_of(error)}')"
        raise refused_conversion(file, stated, opset, found) from error
    largest = max((difference.largest_relative for difference in differences), default=0.0)
    if not largest <= LARGEST_RELATIVE_DIFFERENCE:
        raise refused_conversion(file, stated, opset, f"outputs that differ by {largest:.1e}")
    return ()


def is_known(model: ir.Model, stated: int) -> bool:
    """Whether the conversion of a model from opset ``stated`` is right without comparing (`converter_mistakes`).

    Opsets before `KNOWN_FROM` were never compared operator by operator. A Resize whose scales are computed may have
    rounded in either way.
    """
    return stated >= KNOWN_FROM and not (
        stated < CORNERS_BELOW
        and any(
            node.op_type == "Resize" and (len(node.inputs) < _SCALES + 1 or _is_computed(node.inputs[_SCALES]))
            for node in model.graph.all_nodes()
        )
    )


def _is_computed(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is None
